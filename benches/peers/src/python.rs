//! torch and jax: a Python child process for each, which answers one line of JSON per line of JSON. Arrays are passed
//! as raw files, and the child measures the time. See `peer_loop.py`.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::engine::{Engine, Job, Result};

pub fn torch() -> Result<Box<dyn Engine>> {
    // Debian's python3-torch is installed for Debian's python.
    Python::start("TORCH_PYTHON", "/usr/bin/python3", "torch_bench.py")
}

pub fn jax() -> Result<Box<dyn Engine>> {
    Python::start("JAX_PYTHON", "python3", "jax_bench.py")
}

pub struct Python {
    child: Rc<RefCell<Peer>>,
    about: String,
    dir: PathBuf,
}

impl Python {
    fn start(variable: &str, default: &str, script: &str) -> Result<Box<dyn Engine>> {
        let interpreter = std::env::var(variable).unwrap_or(default.into());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        // -B: no __pycache__ beside the scripts.
        let mut command = Command::new(&interpreter);
        let spawned = command.arg("-B").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("{variable}={interpreter}: {error}"))?;
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut peer = Peer { child, to, from };
        let about = peer.read().map_err(|error| format!("{variable}={interpreter}: {error}"))?;
        let dir = std::env::temp_dir().join(format!("gristmill-peers-{}-{script}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let about = about["about"].as_str().unwrap_or_default().to_string();
        Ok(Box::new(Python { child: Rc::new(RefCell::new(peer)), about, dir }))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Engine for Python {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>> {
        let mut inputs = Vec::new();
        for (i, array) in case.inputs.iter().enumerate() {
            let file = self.dir.join(format!("input{i}"));
            fs::write(&file, array.data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
            inputs.push(json!({ "file": file, "shape": array.shape }));
        }
        let (op, pad) = case.op.for_python();
        self.child.borrow_mut().ask(json!({ "do": "start", "op": op, "pad": pad, "inputs": inputs }))?;
        Ok(Box::new(PythonJob { child: self.child.clone(), dir: self.dir.clone() }))
    }
}

struct PythonJob {
    child: Rc<RefCell<Peer>>,
    dir: PathBuf,
}

impl Job for PythonJob {
    fn run(&mut self) -> Result<Duration> {
        let answer = self.child.borrow_mut().ask(json!({ "do": "run" }))?;
        Ok(Duration::from_secs_f64(answer["seconds"].as_f64().ok_or("no time")?))
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        let answer = self.child.borrow_mut().ask(json!({ "do": "output", "dir": self.dir }))?;
        let read = |file: &Value| -> Result<Vec<f32>> {
            let bytes = fs::read(file.as_str().ok_or("no file")?)?;
            Ok(bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect())
        };
        answer["files"].as_array().ok_or("no files")?.iter().map(read).collect()
    }
}

struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    fn ask(&mut self, question: Value) -> Result<Value> {
        writeln!(self.to, "{question}")?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(format!("python ended: {}", self.child.wait()?).into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
