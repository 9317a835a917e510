//! `cargo xtask mutate`: changes the kernels one place at a time and looks whether the tests notice.
//!
//! A mutant is a copy of `shaders/` with one token changed; the test binaries read it through `GRISTMILL_SHADERS`, so
//! nothing is compiled but the kernels. It meets first the rows of the table that reach its file, then, if it lives,
//! more of their cases and the tests of the other suites that reach it. Which those are shows when the file is broken.
//! A survivor needs its reason in `tests/survivors.txt`.

use crate::mutants::{Mutant, mutants};
use crate::{FEATURES, cargo};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub const USAGE: &str = "\
usage: cargo xtask mutate [--list] [--fresh] [FILE ...]

Changes the kernels (all, or the files named, such as softmax.wgsl) one place at a time, runs the tests that reach the
change, and lists the mutants that live. What was found is kept in target/mutants, and a run goes on where the last one
ended.

  --list    only list the mutants
  --fresh   forget what earlier runs found";

/// Cases a row is tried with at first, and where the mutant survived them.
const CASES: [&str; 2] = ["24", "192"];
/// A mutant that takes longer than this has hung, and is noticed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rows run at first, of those that reach a file.
const FEW: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Killed,
    Invalid,
    Survived,
}

pub fn mutate(arguments: &[String]) -> Result<(), String> {
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let named: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if arguments.iter().any(|a| a.starts_with("--") && !["--list", "--fresh"].contains(&a.as_str())) {
        return Err(USAGE.to_string());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent directory")?;
    let shaders = read_shaders(&root.join("shaders"))?;
    if let Some(unknown) = named.iter().find(|name| !shaders.contains_key(name.as_str())) {
        return Err(format!("shaders/{unknown} does not exist"));
    }
    let files: Vec<&String> =
        shaders.keys().filter(|file| named.is_empty() || named.iter().any(|name| name == file)).collect();
    let mutants: Vec<Mutant> = files.iter().flat_map(|file| mutants(file, &shaders)).collect();
    if flag("--list") {
        mutants.iter().for_each(|m| println!("{}:{}: {}  =>  {}", m.file, m.line, m.was, m.is));
        println!("{} mutants of {} files", mutants.len(), files.len());
        return Ok(());
    }

    let place = root.join("target/mutants");
    if flag("--fresh") && place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let binaries = test_binaries()?;
    // One job takes a file whole, since it has to find out which tests reach it; the largest first.
    let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    mutants.iter().for_each(|mutant| by_file.entry(&mutant.file).or_default().push(mutant));
    let mut queue: Vec<Vec<&Mutant>> = by_file.into_values().collect();
    queue.sort_by_key(Vec::len);
    let (queue, met) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let total = mutants.len();
    let job = &|number: usize| -> Result<(), String> {
        let mut bench = Bench::new(root, &place, number, &shaders, &binaries)?;
        while let Some(mutants) = locked(&queue).pop() {
            for mutant in mutants {
                let fate = bench.fate(mutant)?;
                let mut met = locked(&met);
                met.push((mutant, fate));
                if fate == Fate::Survived {
                    let Mutant { file, line, was, is, .. } = mutant;
                    println!("[{}/{}] lives: {file}:{line}: {was}  =>  {is}", met.len(), total);
                }
            }
        }
        Ok(())
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs).map(|number| scope.spawn(move || job(number))).collect();
        jobs.into_iter().try_for_each(|job| job.join().map_err(|_| "a job ended badly".to_string())?)
    })?;
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let met = met.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (mutant, fate) in &met {
        counts.entry(mutant.file.clone()).or_default()[*fate as usize] += 1;
    }
    let survivors: Vec<&Mutant> =
        met.iter().filter(|(_, fate)| *fate == Fate::Survived).map(|(mutant, _)| *mutant).collect();
    report(&counts, &survivors, &root.join("tests/survivors.txt"))
}

/// Prints the counts, and the survivors that have no reason.
fn report(counts: &BTreeMap<String, [usize; 3]>, survivors: &[&Mutant], known: &Path) -> Result<(), String> {
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
    println!("\n{:<34} {:>7} {:>9} {:>8}", "file", "killed", "survived", "invalid");
    let mut sum = [0; 3];
    for (file, count) in counts {
        println!("{file:<34} {:>7} {:>9} {:>8}", count[0], count[2], count[1]);
        (0..3).for_each(|fate| sum[fate] += count[fate]);
    }
    let share = 100.0 * sum[0] as f64 / (sum[0] + sum[2]).max(1) as f64;
    println!("{:<34} {:>7} {:>9} {:>8}   {share:.1} % killed", "all", sum[0], sum[2], sum[1]);
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

/// Where one job's mutants meet the tests.
struct Bench<'a> {
    root: &'a Path,
    /// Where all jobs keep what was found.
    place: &'a Path,
    /// The job's own shaders, which stand in for the crate's.
    own: PathBuf,
    shaders: &'a BTreeMap<String, String>,
    table: PathBuf,
    /// The other suites that run kernels.
    suites: Vec<PathBuf>,
    /// The rows of the table that reach a file.
    rows: BTreeMap<String, Vec<String>>,
    /// The tests of the other suites that reach a file.
    tests: BTreeMap<String, Vec<(PathBuf, Vec<String>)>>,
    /// By the mutant's key and text.
    found: BTreeMap<String, Fate>,
}

impl<'a> Bench<'a> {
    fn new(
        root: &'a Path,
        place: &'a Path,
        job: usize,
        shaders: &'a BTreeMap<String, String>,
        binaries: &BTreeMap<String, PathBuf>,
    ) -> Result<Bench<'a>, String> {
        let own = place.join(format!("job{job}"));
        fs::create_dir_all(own.join("shared")).map_err(|error| format!("{}: {error}", own.display()))?;
        let table = binaries.get("table").ok_or("there is no test binary `table`")?.clone();
        // The suites that dispatch kernels; `faults` breaks devices on purpose and takes its time.
        let others = [
            "table",
            "shaders",
            "faults",
            "memory",
            "mnist",
            "fuzz",
            "doctor",
            "determinism",
            "limits",
            "leaks",
        ];
        let suites = binaries.iter().filter(|(name, _)| !others.contains(&name.as_str()));
        let suites = suites.map(|(_, path)| path.clone()).collect();
        let found = fs::read_to_string(place.join("found.tsv")).unwrap_or_default();
        let found = found.lines().filter_map(parse_found).collect();
        let (rows, tests) = (BTreeMap::new(), BTreeMap::new());
        Ok(Bench { root, place, own, shaders, table, suites, rows, tests, found })
    }

    /// What became of a mutant; looked up, or found out and kept.
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
        writeln!(file, "{key}\t{fate:?}").map_err(|error| format!("{}: {error}", path.display()))?;
        self.found.insert(key, fate);
        Ok(fate)
    }

    fn meet(&mut self, mutant: &Mutant) -> Result<Fate, String> {
        let rows = self.rows(&mutant.file)?;
        let few = &rows[..rows.len().min(FEW)];
        self.write(&mutant.file, &mutant.text)?;
        let mut fate = Fate::Survived;
        for (rows, cases) in [(few, CASES[0]), (&rows[..], CASES[0]), (&rows[..], CASES[1])] {
            if fate == Fate::Survived && !rows.is_empty() {
                fate = self.run(self.command(&self.table, rows, cases))?;
            }
        }
        if fate == Fate::Survived {
            let suites = self.tests(&mutant.file)?;
            self.write(&mutant.file, &mutant.text)?;
            for (suite, tests) in suites {
                if fate == Fate::Survived {
                    let mut command = self.command(&suite, &[], CASES[0]);
                    command.arg("--exact").args(tests);
                    fate = self.run(command)?;
                }
            }
        }
        self.write(&mutant.file, &self.shaders[&mutant.file])?;
        Ok(fate)
    }

    /// The rows that reach a file.
    fn rows(&mut self, file: &str) -> Result<Vec<String>, String> {
        if let Some(rows) = self.rows.get(file) {
            return Ok(rows.clone());
        }
        let tests = self.broken_by(&self.table, file)?;
        let mut rows: Vec<String> =
            tests.iter().filter_map(|test| test.split("::").next().map(str::to_string)).collect();
        rows.sort();
        rows.dedup();
        println!("{file}: {} rows reach it", rows.len());
        self.rows.insert(file.to_string(), rows.clone());
        Ok(rows)
    }

    /// The tests of the other suites that reach a file.
    fn tests(&mut self, file: &str) -> Result<Vec<(PathBuf, Vec<String>)>, String> {
        if let Some(tests) = self.tests.get(file) {
            return Ok(tests.clone());
        }
        let mut all = Vec::new();
        for suite in &self.suites {
            let tests = self.broken_by(suite, file)?;
            if !tests.is_empty() {
                all.push((suite.clone(), tests));
            }
        }
        self.tests.insert(file.to_string(), all.clone());
        Ok(all)
    }

    /// The tests of a binary that fail where a file is no WGSL.
    fn broken_by(&self, binary: &Path, file: &str) -> Result<Vec<String>, String> {
        for (file, text) in self.shaders {
            self.write(file, text)?;
        }
        self.write(file, &format!("{}\nfn (", self.shaders[file]))?;
        let output = self
            .command(binary, &[], "4")
            .output()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        let failed = |line: &str| {
            let name = line.strip_prefix("test ")?.strip_suffix("FAILED")?;
            Some(name.trim_end_matches([' ', '.']).to_string())
        };
        self.write(file, &self.shaders[file])?;
        Ok(text.lines().filter_map(failed).collect())
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.own.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A test binary on the mutant.
    fn command(&self, binary: &Path, rows: &[String], cases: &str) -> Command {
        let mut command = Command::new(binary);
        command
            .current_dir(self.root)
            .env("GRISTMILL_SHADERS", &self.own)
            .env("PROPTEST_CASES", cases)
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("GRISTMILL_ROWS", rows.join(","))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
        if std::env::var_os("GRISTMILL_DEVICE").is_none() {
            command.env("GRISTMILL_DEVICE", "vulkan:llvmpipe");
        }
        if binary == self.table {
            command.args(["--skip", "gradients_are_slopes", "--skip", "bounds_are_tight"]);
        }
        command
    }

    fn run(&self, mut command: Command) -> Result<Fate, String> {
        let log = self.own.join("log.txt");
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut child = command.stdout(file).spawn().map_err(|error| format!("a test: {error}"))?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break Some(status),
                None if began.elapsed() > PATIENCE => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let Some(status) = status else {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Fate::Killed);
        };
        if status.success() {
            return Ok(Fate::Survived);
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        let invalid = ["Shader '", "parsing error", "validation error", "Validation Error"];
        Ok(if invalid.iter().any(|sign| text.contains(sign)) { Fate::Invalid } else { Fate::Killed })
    }
}

fn parse_found(line: &str) -> Option<(String, Fate)> {
    let (key, fate) = line.rsplit_once('\t')?;
    let fate =
        [Fate::Killed, Fate::Invalid, Fate::Survived].into_iter().find(|f| format!("{f:?}") == fate)?;
    Some((key.to_string(), fate))
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The test binaries of the crate, by name; built where they are not.
fn test_binaries() -> Result<BTreeMap<String, PathBuf>, String> {
    let output = cargo()
        .args(["test", "--no-run", "--tests", "--message-format", "short"])
        .args(FEATURES)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    if !output.status.success() {
        return Err(format!("the tests do not build:\n{text}"));
    }
    // `  Executable tests/table.rs (target/debug/deps/table-a9b9470123715bd8)`
    let parse = |line: &str| -> Option<(String, PathBuf)> {
        let (name, path) = line.trim().strip_prefix("Executable ")?.rsplit_once(" (")?;
        let name = Path::new(name.strip_prefix("tests/")?).file_stem()?.to_str()?.to_string();
        let path = PathBuf::from(path.strip_suffix(')')?);
        Some((name, std::path::absolute(path).ok()?))
    };
    Ok(text.lines().filter_map(parse).collect())
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
