//! `cargo xtask mutate`: changes the kernels one place at a time and looks whether the tests notice.
//!
//! A mutant is a copy of `shaders/` with one token changed; the test binaries read it through `GRISTMILL_SHADERS`, so
//! nothing is compiled but the kernels. It meets first the rows of the table that reach its file, then, if it lives,
//! more of their cases and the tests of the other suites that reach it. Which those are shows when the file is broken.
//! A survivor needs its reason in `tests/survivors.txt`.

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

/// One change of one file.
struct Mutant {
    file: String,
    /// Of the line, counted from 1.
    line: usize,
    /// The line as it is, and as it is changed, without the space around.
    was: String,
    is: String,
    /// Which of the file's mutants of that line and change it is, counted from 1.
    nth: usize,
    /// The whole changed text.
    text: String,
}

impl Mutant {
    /// What stands for it in lists: it must not depend on the line's number.
    fn key(&self) -> String {
        let nth = if self.nth > 1 { format!(" ({})", self.nth) } else { String::new() };
        format!("{}\t{}{nth}\t{}", self.file, self.was, self.is)
    }
}

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

/// A token of WGSL code: where it lies, and the text.
struct Token<'t> {
    at: usize,
    text: &'t str,
}

/// The tokens of a file, without comments, imports and attributes.
fn tokens(text: &str) -> Vec<Token<'_>> {
    const LONG: [&str; 12] = ["<<=", ">>=", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "->"];
    let mut tokens = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        let mut at = 0;
        while at < code.len() && !code.starts_with("#import") {
            let rest = &code[at..];
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let first = rest.chars().next().unwrap_or(' ');
            let len = if word(first) {
                let number = first.is_ascii_digit();
                // An exponent's sign belongs to its number.
                let mut before = ' ';
                let end = rest.find(|c: char| {
                    let inside = word(c)
                        || (number && (c == '.' || ((c == '-' || c == '+') && "ep".contains(before))));
                    before = c;
                    !inside
                });
                end.unwrap_or(rest.len())
            } else if let Some(long) = LONG.iter().find(|long| rest.starts_with(**long)) {
                long.len()
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token { at: start + at, text: &rest[..len] });
            }
            at += len;
        }
        start += line.len();
    }
    tokens
}

/// Every mutant of a file.
fn mutants(file: &str, shaders: &BTreeMap<String, String>) -> Vec<Mutant> {
    let text = &shaders[file];
    let tokens = tokens(text);
    let fields = param_fields(text);
    let mut all = Vec::new();
    let (mut skip_until, mut in_struct) = (0, false);
    for (i, token) in tokens.iter().enumerate() {
        let t = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let before = if i == 0 { "" } else { t(i - 1) };
        in_struct = (in_struct && before != "}") || token.text == "struct";
        // Attributes such as @binding(0), and the arguments of types.
        if token.text == "@" && t(i + 2) == "(" {
            skip_until = skip_until.max(closing(&tokens, i + 2, "(", ")"));
        }
        if token.text == "<" && TYPES.contains(&before) {
            skip_until = skip_until.max(closing(&tokens, i, "<", ">"));
        }
        if i <= skip_until && skip_until > 0 || in_struct {
            continue;
        }
        for (end, change) in changes(&tokens, i, &fields) {
            let (from, to) = (token.at, tokens[end].at + tokens[end].text.len());
            let changed = format!("{}{change}{}", &text[..from], &text[to..]);
            let line = text[..from].matches('\n').count();
            let of = |text: &str| text.lines().nth(line).unwrap_or_default().trim().to_string();
            let (was, is) = (of(text), of(&changed));
            let nth = 1 + all.iter().filter(|other: &&Mutant| other.was == was && other.is == is).count();
            all.push(Mutant { file: file.to_string(), line: line + 1, was, is, nth, text: changed });
        }
    }
    all
}

const TYPES: [&str; 9] = ["array", "var", "ptr", "bitcast", "vec2", "vec3", "vec4", "atomic", "mat4x4"];

/// The place of the token that closes the one at `open`.
fn closing(tokens: &[Token], open: usize, left: &str, right: &str) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += usize::from(token.text == left);
        if token.text == right {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    open
}

/// The u32 fields of the file's `struct Params`: one may be mistaken for another.
fn param_fields(text: &str) -> Vec<String> {
    let Some(body) = text.split("struct Params {").nth(1).and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let code: Vec<&str> = body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let fields = code.join(" ");
    let field = |field: &str| field.trim().strip_suffix(": u32").map(str::to_string);
    fields.split(',').filter_map(field).collect()
}

/// What may be put in place of the tokens from `i` to the one that is named first.
fn changes(tokens: &[Token], i: usize, fields: &[String]) -> Vec<(usize, String)> {
    let t = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let (token, before) = (t(i), if i == 0 { "" } else { t(i - 1) });
    let here = |changes: &[&str]| changes.iter().map(|change| (i, change.to_string())).collect::<Vec<_>>();
    // A value ends before a binary operator.
    let binary =
        before.ends_with(|c: char| c.is_ascii_alphanumeric() || "_)]".contains(c)) && before != "return";
    match token {
        "workgroupBarrier" => vec![(i + 2, String::new())],
        "<" => here(&["<=", ">="]),
        "<=" => here(&["<", ">"]),
        ">" => here(&[">=", "<="]),
        ">=" => here(&[">", "<"]),
        "==" => here(&["!="]),
        "!=" => here(&["=="]),
        "&&" => here(&["||"]),
        "||" => here(&["&&"]),
        "+=" => here(&["-="]),
        "-=" => here(&["+="]),
        "+" if binary && t(i + 1) != "=" => here(&["-"]),
        "-" if binary && t(i + 1) != "-" => here(&["+"]),
        "!" => here(&[""]),
        "true" => here(&["false"]),
        "false" => here(&["true"]),
        "max" | "min" | "max_nan" | "min_nan" if t(i + 1) == "(" && before != "fn" && before != "." => {
            let other = if token.starts_with("max") {
                token.replace("max", "min")
            } else {
                token.replace("min", "max")
            };
            vec![(i, other)]
        }
        // A swizzle: another component, or two exchanged.
        swizzle if before == "." && !swizzle.is_empty() && swizzle.chars().all(|c| "xyzw".contains(c)) => {
            let letters: Vec<char> = swizzle.chars().collect();
            let changed = match letters[..] {
                ['x'] => "y".to_string(),
                ['y'] => "x".to_string(),
                ['z'] => "y".to_string(),
                [_] => "z".to_string(),
                [a, b, ..] => format!("{b}{a}{}", letters[2..].iter().collect::<String>()),
                [] => return Vec::new(),
            };
            vec![(i, changed)]
        }
        field if before == "." && i > 1 && t(i - 2) == "p" && fields.len() > 1 => {
            let Some(at) = fields.iter().position(|known| known == field) else { return Vec::new() };
            vec![(i, fields[(at + 1) % fields.len()].clone())]
        }
        number if number.starts_with(|c: char| c.is_ascii_digit()) && before != "case" => {
            if let Some(digits) = number.strip_suffix(['u', 'i']) {
                let radix = if digits.starts_with("0x") { 16 } else { 10 };
                let parsed = u64::from_str_radix(digits.trim_start_matches("0x"), radix);
                let suffix = &number[number.len() - 1..];
                return parsed.map_or(Vec::new(), |n| vec![(i, format!("{}{suffix}", n + 1))]);
            }
            match number.parse::<f64>() {
                // An index or a count.
                Ok(n) if !number.contains(['.', 'e', 'x']) => vec![(i, format!("{}", n + 1.0))],
                Ok(0.0) => here(&["1.0"]),
                Ok(n) => vec![(i, format!("{:?}", 2.0 * n))],
                Err(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> Vec<String> {
        let shaders = BTreeMap::from([("a.wgsl".to_string(), text.to_string())]);
        mutants("a.wgsl", &shaders).into_iter().map(|mutant| mutant.is).collect()
    }

    #[test]
    fn each_kind_of_place_is_changed() {
        assert_eq!(changed("if (i < n) {"), ["if (i <= n) {", "if (i >= n) {"]);
        assert_eq!(changed("workgroupBarrier();"), [";"]);
        assert_eq!(
            changed("a = max(b, c) - 1u;"),
            ["a = min(b, c) - 1u;", "a = max(b, c) + 1u;", "a = max(b, c) - 2u;"]
        );
        assert_eq!(changed("a = v.x + v.yz;"), ["a = v.y + v.yz;", "a = v.x - v.yz;", "a = v.x + v.zy;"]);
        assert_eq!(changed("x = 0x1p-24f * -1.5e-3;"), ["x = 0x1p-24f * -0.003;"]);
        assert_eq!(changed("var<storage, read> a: array<vec4u, 6>; // a < b"), Vec::<String>::new());
        assert_eq!(changed("@group(0) @binding(1) var<uniform> p: Params;"), Vec::<String>::new());
    }

    #[test]
    fn a_parameter_is_mistaken_for_another() {
        let text = "struct Params { rows: u32, cols: u32 }\nif (i < p.rows) { return; }";
        assert!(changed(text).contains(&"if (i < p.cols) { return; }".to_string()));
    }
}
