//! `cargo xtask mutate`: changes the kernels at one place at a time and checks whether the tests fail.
//!
//! A mutant is a copy of `shaders/` with one token changed. The test binaries read it through `GRISTMILL_SHADERS`, so
//! only kernels are compiled. A survey first finds the tests that reach each file. A mutant first runs golden cases and
//! a few rows of the table that reach its file. If it survives, it runs more of them (if few rows reach the file) and
//! the quick tests of the other suites that do. Survivors of one adapter run on the next. Every survivor needs a reason
//! in `tests/survivors.txt`.

use crate::binaries::{self, Binary};
use crate::mutants::{Mutant, hash, mutants, sample, users};
use crate::output::say;
use crate::{prepare, swiftshader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub const USAGE: &str = "\
usage: cargo xtask mutate [--list] [--fresh] [--sample N] [--seed S] [FILE ...]

Changes the kernels (all, or the files named, such as softmax.wgsl) one place at a time, runs the tests that reach the
change, and lists the mutants that live; at least 95 % must not. They meet vulkan:llvmpipe first, then SwiftShader where it is
installed; or the adapter that GRISTMILL_DEVICE names. What was found is kept in target/mutants, and a run goes on where the last one ended, even if the tests, or files
that the changed one imports, are others by now.

  --list      only list the mutants
  --fresh     forget what earlier runs on this machine found; tests/mutants.tsv, the record of others, stays
  --sample N  only N of them, drawn at random by the seed
  --seed S    the seed of the sample: the same draws the same mutants; the time where not said";

/// A record of earlier runs that is kept with the project: `target/mutants/found.tsv` of a long run, copied here. An entry
/// holds as long as the mutant's file stays as it was.
const KEPT: &str = "tests/mutants.tsv";
/// Cases per row at first, and for mutants that survived these; the latter is the default of the suite.
const CASES: [&str; 2] = ["24", "256"];
/// Suites that dispatch no kernel, break devices on purpose, or are slow.
const STRANGERS: [&str; 12] = [
    "shaders",
    "faults",
    "memory",
    "mnist",
    "fuzz",
    "doctor",
    "determinism",
    "limits",
    "leaks",
    "deadlocks",
    "examples",
    "files",
];
/// Slower tests that are not rows of the table are not run on mutants.
const SLOW: Duration = Duration::from_secs(4);
/// Number of rows per file that run at first.
const FEW: usize = 2;
/// If more rows than this reach a file, they are not run again with more cases.
const MANY: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Killed,
    Invalid,
    Survived,
    /// Counts as killed: its tests did not end in time.
    Hung,
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    list: bool,
    fresh: bool,
    sample: Option<usize>,
    seed: Option<u64>,
    files: Vec<String>,
}

fn parse(arguments: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--list" => options.list = true,
            "--fresh" => options.fresh = true,
            "--sample" => options.sample = Some(rest.next()?.parse().ok()?),
            "--seed" => options.seed = Some(rest.next()?.parse().ok()?),
            name if name.starts_with("--") => return None,
            name => options.files.push(name.to_string()),
        }
    }
    Some(options)
}

pub fn mutate(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments).ok_or(USAGE)?;
    let named = &options.files;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent directory")?;
    let shaders = read_shaders(&root.join("shaders"))?;
    if let Some(unknown) = named.iter().find(|name| !shaders.contains_key(name.as_str())) {
        return Err(format!("shaders/{unknown} does not exist"));
    }
    let files: Vec<&String> =
        shaders.keys().filter(|file| named.is_empty() || named.contains(file)).collect();
    let mut mutants: Vec<Mutant> = files.iter().flat_map(|file| mutants(file, &shaders)).collect();
    if let Some(count) = options.sample {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let seed = options.seed.unwrap_or(now);
        say(format!("{count} of {} mutants, drawn by --seed {seed}", mutants.len()));
        mutants = sample(mutants, count, seed);
    }
    if options.list {
        mutants.iter().for_each(|m| say(format!("{}:{}: {}  =>  {}", m.file, m.line, m.was, m.is)));
        say(format!("{} mutants of {} files", mutants.len(), files.len()));
        return Ok(());
    }

    let place = root.join("target/mutants");
    if options.fresh && place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let (reach, devices) = (Reach::known(&place, root, &test_binaries()?)?, devices());
    // A job processes whole files, the largest first.
    let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    mutants.iter().for_each(|mutant| by_file.entry(&mutant.file).or_default().push(mutant));
    let mut queue: Vec<Vec<&Mutant>> = by_file.into_values().collect();
    queue.sort_by_key(Vec::len);
    let (queue, met, times) = (Mutex::new(queue), Mutex::new(Vec::new()), Mutex::default());
    let total = mutants.len();
    in_jobs(|number| {
        let runner = Runner::new(root, place.join(format!("job{number}")))?;
        let mut bench = Bench::new(runner, &place, &shaders, &reach, &devices, &times)?;
        while let Some(mutants) = pop(&queue) {
            for mutant in mutants {
                let fate = bench.fate(mutant)?;
                let mut met = locked(&met);
                met.push((mutant, fate));
                if fate == Fate::Survived {
                    let Mutant { file, line, was, is, .. } = mutant;
                    say(format!("[{}/{}] lives: {file}:{line}: {was}  =>  {is}", met.len(), total));
                }
            }
        }
        Ok(())
    })?;
    let mut counts: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let met = met.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (mutant, fate) in &met {
        counts.entry(mutant.file.clone()).or_default()[*fate as usize] += 1;
    }
    let survivors: Vec<&Mutant> =
        met.iter().filter(|(_, fate)| *fate == Fate::Survived).map(|(mutant, _)| *mutant).collect();
    report(&counts, &survivors, &root.join("tests/survivors.txt"))
}

/// Prints the counts, and the survivors without a reason.
fn report(counts: &BTreeMap<String, [usize; 4]>, survivors: &[&Mutant], known: &Path) -> Result<(), String> {
    let known = fs::read_to_string(known).unwrap_or_default();
    // file, line, changed line, reason
    let reasons: Vec<Vec<&str>> = known
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
        .collect();
    let explained = |mutant: &Mutant| {
        reasons
            .iter()
            .any(|r| r.len() == 4 && [r[0], r[1], r[2]].join("\t") == mutant.key() && !r[3].is_empty())
    };
    say(format!("\n{:<34} {:>7} {:>7} {:>9} {:>8}", "file", "killed", "hung", "survived", "invalid"));
    let mut sum = [0; 4];
    for (file, [killed, invalid, survived, hung]) in counts {
        say(format!("{file:<34} {killed:>7} {hung:>7} {survived:>9} {invalid:>8}"));
        sum.iter_mut().zip([killed, invalid, survived, hung]).for_each(|(sum, count)| *sum += count);
    }
    let [killed, invalid, survived, hung] = sum;
    let share = 100.0 * (killed + hung) as f64 / (killed + hung + survived).max(1) as f64;
    say(format!("{:<34} {killed:>7} {hung:>7} {survived:>9} {invalid:>8}   {share:.1} % killed", "all"));
    let unexplained: Vec<String> =
        survivors.iter().filter(|m| !explained(m)).map(|mutant| mutant.key()).collect();
    if share < 95.0 {
        return Err(format!("{share:.1} % of the mutants are killed; at least 95 % must be"));
    }
    if !unexplained.is_empty() {
        let list = unexplained.join("\n");
        return Err(format!(
            "{} survivors have no reason in tests/survivors.txt:\n{list}",
            unexplained.len()
        ));
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of a row or test with unchanged kernels, by adapter, binary, name and cases. Shared by all jobs.
type Times<'a> = Mutex<BTreeMap<(&'a str, &'a Path, String, &'static str), Duration>>;

/// Runs the tests on the mutants of one job.
struct Bench<'a> {
    runner: Runner<'a>,
    /// The directory in which all jobs store results.
    place: &'a Path,
    shaders: &'a BTreeMap<String, String>,
    reach: &'a Reach,
    devices: &'a [String],
    /// The rows that reach a file; those that killed its previous mutants come first.
    rows: BTreeMap<String, Vec<String>>,
    /// The golden cases that killed mutants of a file, with counts.
    killers: BTreeMap<String, BTreeMap<String, usize>>,
    /// For each declaration of a shared file, the kernel files that use it.
    users: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
    times: &'a Times<'a>,
    /// Earlier results, by key and text of the mutant.
    found: BTreeMap<String, Fate>,
}

impl<'a> Bench<'a> {
    fn new(
        runner: Runner<'a>,
        place: &'a Path,
        shaders: &'a BTreeMap<String, String>,
        reach: &'a Reach,
        devices: &'a [String],
        times: &'a Times<'a>,
    ) -> Result<Bench<'a>, String> {
        // What was found on other machines, then on this one.
        let kept = fs::read_to_string(runner.root.join(KEPT)).unwrap_or_default();
        let found = fs::read_to_string(place.join("found.tsv")).unwrap_or_default();
        let found = kept.lines().chain(found.lines()).filter_map(parse_found).collect();
        let rows = reach.rows.clone();
        let users = users(shaders);
        let killers = BTreeMap::new();
        let bench = Bench { runner, place, shaders, reach, devices, rows, killers, users, times, found };
        shaders.iter().try_for_each(|(file, text)| bench.write(file, text))?;
        Ok(bench)
    }

    /// The fate of a mutant: an earlier result, or a new one, which is stored.
    fn fate(&mut self, mutant: &Mutant) -> Result<Fate, String> {
        let key = format!("{}\t{:016x}", mutant.key(), hash(&mutant.text));
        if let Some(&fate) = self.found.get(&key) {
            return Ok(fate);
        }
        let fate = self.meet(mutant)?;
        let path = self.place.join("found.tsv");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        // A single write, because other jobs append to the file too.
        let line = format!("{key}\t{fate:?}\n");
        file.write_all(line.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))?;
        self.found.insert(key, fate);
        Ok(fate)
    }

    /// Whether a test that reaches the mutant's file runs a kernel that uses the changed declaration: kernels use only
    /// parts of a shared file.
    fn meets(&self, binary: &Path, name: &str, mutant: &Mutant) -> bool {
        let place = (&*mutant.file, mutant.declaration.as_deref().unwrap_or_default());
        let files = self.reach.files.get(&(binary.to_path_buf(), name.to_string()));
        match (self.users.get(&place), files) {
            (Some(users), Some(files)) => users.iter().any(|kernel| files.contains(*kernel)),
            _ => true,
        }
    }

    fn meet(&mut self, mutant: &Mutant) -> Result<Fate, String> {
        for device in self.devices {
            let fate = self.meet_on(device, mutant)?;
            if fate != Fate::Survived {
                return Ok(fate);
            }
        }
        Ok(Fate::Survived)
    }

    fn meet_on(&mut self, device: &'a str, mutant: &Mutant) -> Result<Fate, String> {
        let reach = self.reach;
        let meet = |binary: &Path, names: &[String]| -> Vec<String> {
            names.iter().filter(|name| self.meets(binary, name, mutant)).cloned().collect()
        };
        let rows = meet(&reach.table, self.rows.get(&mutant.file).map_or(&[], Vec::as_slice));
        let tests = reach.tests.get(&mutant.file).into_iter().flatten();
        let tests: Vec<(&'a Path, Vec<String>)> =
            tests.map(|(binary, names)| (binary.as_path(), meet(binary, names))).collect();
        let few = |names: &[String]| names[..names.len().min(FEW)].to_vec();
        // Golden cases run first: they cost least and detect much.
        let golden = tests.iter().filter(|(binary, _)| separator(binary).is_some());
        let mut runs: Vec<(&Path, Vec<String>, &'static str)> =
            golden.map(|(binary, names)| (*binary, few(names), CASES[0])).collect();
        runs.push((&reach.table, few(&rows), CASES[0]));
        if rows.len() > FEW {
            runs.push((&reach.table, rows.clone(), CASES[0]));
        }
        // If dozens of rows reach a file, more cases of each detect little more and take minutes.
        if rows.len() <= MANY && *device == self.devices[0] {
            runs.push((&reach.table, rows, CASES[1]));
        }
        let by_rows = |binary| separator(binary).is_some();
        let tests = tests.into_iter().filter(|(binary, names)| !by_rows(binary) || names.len() > FEW);
        runs.extend(tests.map(|(binary, names)| (binary, names, CASES[0])));
        for (binary, names, cases) in runs {
            if names.is_empty() {
                continue;
            }
            let first = &self.first(&mutant.file);
            let fate = self.fate_by(mutant, &Run { device, binary, names: &names, cases, first })?;
            if fate != Fate::Survived {
                return Ok(fate);
            }
        }
        Ok(Fate::Survived)
    }

    /// The golden cases to run first, joined: those that killed most mutants of the file.
    fn first(&self, file: &str) -> String {
        let mut killers: Vec<(&String, &usize)> = self.killers.get(file).into_iter().flatten().collect();
        killers.sort_by_key(|(_, killed)| std::cmp::Reverse(**killed));
        let names: Vec<&str> = killers.into_iter().map(|(name, _)| name.as_str()).collect();
        names.join("|")
    }

    /// The fate of a mutant by one run.
    fn fate_by(&mut self, mutant: &Mutant, run: &Run<'a, '_>) -> Result<Fate, String> {
        let (mut fate, mut log) = (Fate::Hung, String::new());
        // A mutant hangs if it twice takes many times as long as unchanged kernels. Once may be due to a busy machine.
        for _ in 0..2 {
            // Allows for compilation: drivers cache the unchanged kernels, but not a changed one.
            let mut patience = Duration::from_secs(60);
            for name in run.names {
                patience += 4 * self.time(run, name)?;
            }
            self.write(&mutant.file, &mutant.text)?;
            let met = self.runner.run(run, patience);
            self.write(&mutant.file, &self.shaders[&mutant.file])?;
            (fate, log) = met?;
            if fate != Fate::Hung {
                break;
            }
            locked(self.times).retain(|(_, _, name, _), _| !run.names.contains(name));
        }
        // A case that kills a mutant is likely to kill the next one of the file, so it runs first.
        let said = |what: &str| log.lines().find_map(|line| line.strip_prefix(what));
        if let Some(case) = said("failed case: ") {
            *self.killers.entry(mutant.file.clone()).or_default().entry(case.to_string()).or_default() += 1;
        }
        let killer = said("failed row: ");
        if let (Some(killer), Some(rows)) = (killer, self.rows.get_mut(&mutant.file))
            && let Some(at) = rows.iter().position(|row| row == killer)
        {
            rows[..=at].rotate_right(1);
        }
        Ok(fate)
    }

    /// The time of a row or test of the run with unchanged kernels.
    fn time(&mut self, run: &Run<'a, '_>, name: &String) -> Result<Duration, String> {
        let key = (run.device, run.binary, name.clone(), run.cases);
        if let Some(&time) = locked(self.times).get(&key) {
            return Ok(time);
        }
        let began = Instant::now();
        let alone = Run { names: std::slice::from_ref(name), ..*run };
        let (fate, log) = self.runner.run(&alone, Duration::from_secs(1800))?;
        if fate != Fate::Survived {
            return Err(format!("{} {name}: fails without a mutant:\n{log}", run.binary.display()));
        }
        Ok(*locked(self.times).entry(key).or_insert(began.elapsed()))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.runner.own.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Some rows of the table, or some tests of another suite.
struct Run<'b, 'n> {
    device: &'b str,
    binary: &'b Path,
    names: &'n [String],
    cases: &'static str,
    /// The golden cases to run first.
    first: &'n str,
}

/// Runs tests on its own copy of the shaders, in place of the crate's.
struct Runner<'a> {
    root: &'a Path,
    own: PathBuf,
}

impl<'a> Runner<'a> {
    fn new(root: &'a Path, own: PathBuf) -> Result<Runner<'a>, String> {
        fs::create_dir_all(own.join("shared")).map_err(|error| format!("{}: {error}", own.display()))?;
        Ok(Runner { root, own })
    }

    fn command(&self, run: &Run) -> Command {
        let mut command = Command::new(run.binary);
        command
            .current_dir(self.root)
            .env("GRISTMILL_SHADERS", &self.own)
            .env("PROPTEST_CASES", run.cases)
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .args(["--test-threads", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        prepare(&mut command);
        command.env("GRISTMILL_DEVICE", run.device);
        if separator(run.binary).is_some() {
            command.env("GRISTMILL_ROWS", run.names.join(",")).env("GRISTMILL_FAIL_FAST", "1");
            command.env("GRISTMILL_FIRST", run.first);
            command.args(["--skip", "gradients_are_slopes", "--skip", "bounds_are_tight"]);
        } else {
            command.arg("--exact").args(run.names);
        }
        command
    }

    /// Runs tests; returns the fate and the output.
    fn run(&self, run: &Run, patience: Duration) -> Result<(Fate, String), String> {
        let log = self.own.join("log.txt");
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut child = self.command(run).stdout(file).spawn().map_err(|error| format!("a test: {error}"))?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break Some(status),
                None if began.elapsed() > patience => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = fs::read_to_string(&log).unwrap_or_default();
        let Some(status) = status else {
            let _ = child.kill();
            let _ = child.wait();
            return Ok((Fate::Hung, text));
        };
        if status.success() {
            return Ok((Fate::Survived, text));
        }
        let invalid = ["Shader '", "parsing error", "validation error", "Validation Error"];
        Ok((if invalid.iter().any(|sign| text.contains(sign)) { Fate::Invalid } else { Fate::Killed }, text))
    }
}

/// The kernel files that each test reaches.
struct Reach {
    table: PathBuf,
    /// Rows of the table by file.
    rows: BTreeMap<String, Vec<String>>,
    /// Tests of the other suites by file and binary.
    tests: BTreeMap<String, BTreeMap<PathBuf, Vec<String>>>,
    /// The files of a row or a test.
    files: BTreeMap<(PathBuf, String), BTreeSet<String>>,
}

impl Reach {
    /// Reads an earlier survey if it is newer than the test binaries; else makes one.
    fn known(place: &Path, root: &Path, binaries: &BTreeMap<String, PathBuf>) -> Result<Reach, String> {
        let table = binaries.get("table").ok_or("there is no test binary `table`")?;
        let list = place.join("reach.tsv");
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
        let newest = binaries.values().filter_map(changed).max();
        if changed(&list) < newest {
            let lines = Reach::survey(place, root, binaries)?;
            fs::write(&list, lines).map_err(|error| format!("{}: {error}", list.display()))?;
        }
        let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
        let (mut rows, mut tests, mut files) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut rows_by_name = BTreeMap::new();
        for line in text.lines() {
            let [file, binary, name] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
            let (file, binary, name) = (file.to_string(), PathBuf::from(binary), name.to_string());
            let of_name: &mut BTreeSet<String> = files.entry((binary.clone(), name.clone())).or_default();
            of_name.insert(file.clone());
            let names: &mut Vec<String> = if binary == *table {
                *rows_by_name.entry(name.clone()).or_insert(0) += 1;
                rows.entry(file).or_default()
            } else {
                let of_file: &mut BTreeMap<_, _> = tests.entry(file).or_default();
                of_file.entry(binary).or_default()
            };
            names.push(name);
        }
        // Rows that reach few files come first: they are the most likely to detect a change.
        let count = |name: &String| rows_by_name.get(name).copied().unwrap_or(0);
        rows.values_mut().for_each(|names: &mut Vec<String>| names.sort_by_key(count));
        Ok(Reach { table: table.clone(), rows, tests, files })
    }

    /// Runs each row and each test by itself and records the kernels it requests, as lines of file, binary and name.
    fn survey(place: &Path, root: &Path, binaries: &BTreeMap<String, PathBuf>) -> Result<String, String> {
        say("finding out which tests reach which kernels");
        let mut all = Vec::new();
        for binary in binaries.iter().filter(|(name, _)| !STRANGERS.contains(&name.as_str())) {
            let output = Command::new(binary.1).arg("--list").output();
            let output = output.map_err(|error| format!("{}: {error}", binary.1.display()))?;
            let text = String::from_utf8_lossy(&output.stdout).to_string();
            let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
            let mut names: Vec<String> = match separator(binary.1) {
                Some(end) => names.filter_map(|name| Some(name.split_once(end)?.0.to_string())).collect(),
                None => names.map(str::to_string).collect(),
            };
            names.sort();
            names.dedup();
            all.extend(names.into_iter().map(|name| (binary.1, name)));
        }
        let (queue, lines) = (Mutex::new(all), Mutex::new(Vec::new()));
        let device = devices().swap_remove(0);
        let device = device.as_str();
        in_jobs(|number| {
            let runner = Runner::new(root, place.join(format!("job{number}")))?;
            let list = runner.own.join("reached.txt");
            while let Some((binary, name)) = pop(&queue) {
                let _ = fs::remove_file(&list);
                let names = std::slice::from_ref(&name);
                let began = Instant::now();
                let run = Run { device, binary, names, cases: CASES[0], first: "" };
                runner.run(&run, Duration::from_secs(1800))?;
                if separator(binary).is_none() && began.elapsed() > SLOW {
                    continue;
                }
                let text = fs::read_to_string(&list).unwrap_or_default();
                let files: BTreeSet<&str> = text.lines().collect();
                locked(&lines)
                    .extend(files.iter().map(|file| format!("{file}\t{}\t{name}\n", binary.display())));
            }
            Ok(())
        })?;
        let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        lines.sort();
        Ok(lines.concat())
    }
}

/// The adapters that mutants are tested on.
fn devices() -> Vec<String> {
    if let Ok(device) = std::env::var("GRISTMILL_DEVICE") {
        return vec![device];
    }
    let swiftshader = swiftshader().map(|_| "vulkan:swiftshader".to_string());
    ["vulkan:llvmpipe".to_string()].into_iter().chain(swiftshader).collect()
}

/// For suites that are run by rows: the separator after the name of the row in the name of a test.
fn separator(binary: &Path) -> Option<&'static str> {
    let name = binary.file_name()?.to_str()?;
    [("table-", "::"), ("golden-", " ")]
        .into_iter()
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, end)| end)
}

/// Runs a job on every core.
fn in_jobs(job: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
    let (jobs, job) = (std::thread::available_parallelism().map_or(1, usize::from), &job);
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs)
            .map(|number| scope.spawn(move || job(number).inspect_err(|error| eprintln!("{error}"))))
            .collect();
        jobs.into_iter().try_for_each(|job| job.join().map_err(|_| "a job ended badly".to_string())?)
    })
}

fn pop<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    locked(queue).pop()
}

fn parse_found(line: &str) -> Option<(String, Fate)> {
    let (key, fate) = line.rsplit_once('\t')?;
    let fate = [Fate::Killed, Fate::Invalid, Fate::Survived, Fate::Hung]
        .into_iter()
        .find(|f| format!("{f:?}") == fate)?;
    Some((key.to_string(), fate))
}

/// The test binaries of the main crate's suites, by name.
fn test_binaries() -> Result<BTreeMap<String, PathBuf>, String> {
    let all =
        binaries::build(&["--tests".to_string()])?.into_iter().filter(|binary| !binary.name.contains(' '));
    Ok(all.map(|Binary { name, path }| (name, path)).collect())
}

fn read_shaders(dir: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    for (sub, prefix) in [("", ""), ("shared", "shared/")] {
        let dir = dir.join(sub);
        let entries = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if let (Some("wgsl"), Some(name)) =
                (path.extension().and_then(|e| e.to_str()), path.file_name().and_then(|n| n.to_str()))
            {
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                files.insert(format!("{prefix}{name}"), text);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason whose line was changed or moved would never be found.
    #[test]
    fn every_survivor_is_a_mutant_of_today() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shaders = read_shaders(&root.join("shaders")).unwrap();
        let today: BTreeSet<String> =
            shaders.keys().flat_map(|file| mutants(file, &shaders)).map(|mutant| mutant.key()).collect();
        let known = fs::read_to_string(root.join("tests/survivors.txt")).unwrap();
        let entries = known.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = entries.map(|line| line.rsplit_once('\t').map_or(line, |(key, _)| key));
        let gone: Vec<&str> = keys.filter(|key| !today.contains(*key)).collect();
        assert!(gone.is_empty(), "no longer in shaders:\n{}", gone.join("\n"));
    }

    #[test]
    fn options_are_parsed() {
        let parsed = |text: &str| parse(&text.split_whitespace().map(str::to_string).collect::<Vec<_>>());
        let want =
            Options { sample: Some(300), seed: Some(7), files: vec!["a.wgsl".into()], ..Options::default() };
        assert_eq!(parsed("--sample 300 a.wgsl --seed 7"), Some(want));
        assert_eq!((parsed("--sample"), parsed("--sample x"), parsed("--all")), (None, None, None));
    }
}
