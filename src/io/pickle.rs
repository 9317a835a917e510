//! Python's pickles, as far as PyTorch's `torch.save` needs them for tensors, numbers, strings, lists, tuples and dicts.
//!
//! A pickle is a program for a stack machine, whose opcodes are those of CPython's `Lib/pickletools.py`
//! (<https://github.com/python/cpython/blob/main/Lib/pickletools.py>), of protocols 2 to 5. Python would call what a pickle
//! names. Here nothing is called: the few globals that tensors need are known by name, and any other is an error.

use ::safetensors::tensor::Dtype;
use std::collections::HashMap;

/// The most opcodes of a pickle, and with that of its values.
pub(super) const MOST: usize = 1 << 22;
/// The most axes of a PyTorch tensor.
const AXES: usize = 64;

/// A value. Containers are positions in the lists of [`Pickle`], so values that contain each other are only numbers.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    /// A list or a tuple.
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

/// What a pickle may name.
#[derive(Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    /// A function that makes a tensor of its storage and layout; the number of its arguments.
    Tensor(usize),
    /// A function that makes a parameter of a tensor.
    Parameter,
    /// A class of storages; one of any type counts bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

/// The memory of tensors: a file of the archive.
#[derive(Clone, Copy)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Option<Dtype>,
    pub(super) key: &'a str,
    /// In elements; of no type, in bytes.
    pub(super) numel: usize,
}

/// A tensor. Offset and strides count elements.
pub(super) struct Strided<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: Dtype,
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A pickle's values.
#[derive(Default)]
pub(super) struct Pickle<'a> {
    pub(super) lists: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Strided<'a>>,
}

impl<'a> Pickle<'a> {
    /// Runs a pickle; gives its value as well.
    ///
    /// # Errors
    /// What is wrong with it, or what it has that is not read.
    pub(super) fn run(bytes: &'a [u8]) -> Result<(Pickle<'a>, Value<'a>), String> {
        let mut machine = Machine { rest: bytes, ..Machine::default() };
        for _ in 0..MOST {
            if machine.step()? {
                let root = machine.pop()?;
                return Ok((machine.made, root));
            }
        }
        Err(format!("its pickle has more than {MOST} opcodes"))
    }

    /// What a call gives.
    fn call(&mut self, function: Value<'a>, arguments: usize) -> Result<Value<'a>, String> {
        match (function, &self.lists[arguments][..]) {
            (Value::Global(Global::OrderedDict), []) => Ok(self.dict()),
            (Value::Global(Global::Parameter), [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            (Value::Global(Global::Tensor(count)), arguments) if arguments.len() == count => {
                let tensor = self.tensor(arguments).ok_or("it has a tensor with wrong arguments")?;
                self.tensors.push(tensor);
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            _ => Err("its pickle calls something with wrong arguments".to_string()),
        }
    }

    /// A tensor by the arguments of PyTorch's `_rebuild_tensor`, `_rebuild_tensor_v2` or `_rebuild_tensor_v3`.
    fn tensor(&self, arguments: &[Value<'a>]) -> Option<Strided<'a>> {
        let &[Value::Storage(storage), Value::Int(offset), Value::List(dims), Value::List(strides), ..] =
            arguments
        else {
            return None;
        };
        let storage = self.storages[storage];
        let dtype = match (storage.dtype, arguments.get(6)) {
            (Some(dtype), None) => dtype,
            (None, Some(&Value::Global(Global::Dtype(dtype)))) => dtype,
            _ => return None,
        };
        let offset = usize::try_from(offset).ok()?;
        let (dims, strides) = (self.sizes(dims)?, self.sizes(strides)?);
        (dims.len() == strides.len()).then_some(Strided { storage, dtype, offset, dims, strides })
    }

    /// A list of sizes, one for each axis of a tensor.
    fn sizes(&self, list: usize) -> Option<Vec<usize>> {
        let list = &self.lists[list];
        let size = |value: &Value| match value {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        if list.len() <= AXES { list.iter().map(size).collect() } else { None }
    }

    fn list(&mut self, values: Vec<Value<'a>>) -> Value<'a> {
        self.lists.push(values);
        Value::List(self.lists.len() - 1)
    }

    fn dict(&mut self) -> Value<'a> {
        self.dicts.push(Vec::new());
        Value::Dict(self.dicts.len() - 1)
    }
}

/// What `module.name` is.
fn global(module: &str, name: &str) -> Result<Global, String> {
    let is_storage_of = |dtype| Ok(Global::Storage(Some(dtype)));
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor") => Ok(Global::Tensor(4)),
        // And whether it has a gradient, and hooks.
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::Tensor(6)),
        // And the type, where no class of storages has it.
        ("torch._utils", "_rebuild_tensor_v3") => Ok(Global::Tensor(7)),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::Parameter),
        ("torch", "FloatStorage") => is_storage_of(Dtype::F32),
        ("torch", "HalfStorage") => is_storage_of(Dtype::F16),
        ("torch", "BFloat16Storage") => is_storage_of(Dtype::BF16),
        ("torch", "DoubleStorage") => is_storage_of(Dtype::F64),
        ("torch", "LongStorage") => is_storage_of(Dtype::I64),
        ("torch", "IntStorage") => is_storage_of(Dtype::I32),
        ("torch", "ShortStorage") => is_storage_of(Dtype::I16),
        ("torch", "CharStorage") => is_storage_of(Dtype::I8),
        ("torch", "ByteStorage") => is_storage_of(Dtype::U8),
        ("torch", "BoolStorage") => is_storage_of(Dtype::BOOL),
        ("torch.storage", "UntypedStorage") => Ok(Global::Storage(None)),
        ("torch", "uint16") => Ok(Global::Dtype(Dtype::U16)),
        ("torch", "uint32") => Ok(Global::Dtype(Dtype::U32)),
        ("torch", "uint64") => Ok(Global::Dtype(Dtype::U64)),
        ("torch", "float8_e4m3fn") => Ok(Global::Dtype(Dtype::F8_E4M3)),
        ("torch", "float8_e5m2") => Ok(Global::Dtype(Dtype::F8_E5M2)),
        _ => Err(format!(
            "it names {module}.{name}, and nothing that a file names is run: only tensors, numbers, strings, lists, tuples and \
             dicts are read, such as torch.save(model.state_dict(), path) writes"
        )),
    }
}

#[derive(Default)]
struct Machine<'a> {
    /// What is still to be run.
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    /// Heights of the stack, none above the present one.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    made: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; says whether it was the last.
    fn step(&mut self) -> Result<bool, String> {
        let value = match self.number(1)? {
            // PROTO, FRAME: the protocol's version; a length that only helps to read ahead.
            0x80 => return self.take(1).map(|_| false),
            0x95 => return self.take(8).map(|_| false),
            // STOP
            0x2e => return Ok(true),
            // MARK
            0x28 => {
                self.marks.push(self.stack.len());
                return Ok(false);
            }
            // NONE, NEWTRUE, NEWFALSE
            0x4e => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            // BININT1, BININT2, BININT, LONG1, BINFLOAT
            0x4b => Value::Int(self.number(1)? as i128),
            0x4d => Value::Int(self.number(2)? as i128),
            0x4a => Value::Int(signed(self.take(4)?)?),
            0x8a => {
                let length = self.number(1)?;
                Value::Int(signed(self.take(length)?)?)
            }
            0x47 => {
                let bytes = self.take(8)?.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
                Value::Float(f64::from_bits(bytes))
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.text(1)?,
            0x58 => self.text(4)?,
            0x8d => self.text(8)?,
            // EMPTY_LIST and EMPTY_TUPLE, TUPLE1 to TUPLE3, TUPLE
            0x5d | 0x29 => self.made.list(Vec::new()),
            count @ 0x85..=0x87 => {
                let mut values = Vec::new();
                for _ in 0x85..=count {
                    values.insert(0, self.pop()?);
                }
                self.made.list(values)
            }
            0x74 => {
                let values = self.pop_to_mark()?;
                self.made.list(values)
            }
            // EMPTY_DICT
            0x7d => self.made.dict(),
            // APPEND, APPENDS
            code @ (0x61 | 0x65) => {
                let values = if code == 0x61 { vec![self.pop()?] } else { self.pop_to_mark()? };
                let Value::List(list) = self.top()? else {
                    return Err("its pickle appends to something that is not a list".to_string());
                };
                self.made.lists[list].extend(values);
                return Ok(false);
            }
            // SETITEM, SETITEMS
            code @ (0x73 | 0x75) => {
                let values = if code == 0x73 {
                    let value = self.pop()?;
                    vec![self.pop()?, value]
                } else {
                    self.pop_to_mark()?
                };
                let (Value::Dict(dict), (pairs, [])) = (self.top()?, values.as_chunks::<2>()) else {
                    return Err("its pickle sets items of something that is not a dict".to_string());
                };
                self.made.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
                return Ok(false);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            code @ (0x71 | 0x72 | 0x94) => {
                let key = match code {
                    0x71 => self.number(1)?,
                    0x72 => self.number(4)?,
                    _ => self.memo.len(),
                };
                let value = self.top()?;
                self.memo.insert(key, value);
                return Ok(false);
            }
            // BINGET, LONG_BINGET
            code @ (0x68 | 0x6a) => {
                let key = self.number(if code == 0x68 { 1 } else { 4 })?;
                *self.memo.get(&key).ok_or("its pickle uses a value before it is made")?
            }
            // GLOBAL, STACK_GLOBAL
            0x63 => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Global(global(module, name)?)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Value::Global(global(module, name)?),
                _ => return Err("its pickle names something that is not text".to_string()),
            },
            // REDUCE: calls a function.
            0x52 => match (self.pop()?, self.pop()?) {
                (Value::List(arguments), function) => self.made.call(function, arguments)?,
                _ => return Err("its pickle calls something without arguments".to_string()),
            },
            // BUILD: attributes of an object. `state_dict` gives its dict the attribute `_metadata`, versions of layers.
            0x62 => {
                self.pop()?;
                let Value::Dict(_) = self.top()? else {
                    return Err("its pickle sets attributes of something that is not a dict".to_string());
                };
                return Ok(false);
            }
            // BINPERSID
            0x51 => match self.pop()? {
                Value::List(id) => self.storage(id).ok_or("it has a storage with a wrong id")?,
                _ => return Err("it has a storage without an id".to_string()),
            },
            code => return Err(format!("its pickle has the opcode {code:#04x}, which is not read")),
        };
        self.stack.push(value);
        Ok(false)
    }

    /// The storage that a persistent id names: `("storage", class, key, device, numel)`.
    fn storage(&mut self, id: usize) -> Option<Value<'a>> {
        let &[
            Value::Text("storage"),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Int(numel),
        ] = &self.made.lists[id][..]
        else {
            return None;
        };
        // Keys are small numbers. A long one, looked up often, would take long.
        if key.len() > 32 {
            return None;
        }
        self.made.storages.push(Storage { dtype, key, numel: usize::try_from(numel).ok()? });
        Some(Value::Storage(self.made.storages.len() - 1))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("its pickle is truncated")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, size: usize) -> Result<usize, String> {
        let number = self.take(size)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).map_err(|_| "its pickle has a size that is too large".to_string())
    }

    /// Text behind its length, a number of `size` bytes.
    fn text(&mut self, size: usize) -> Result<Value<'a>, String> {
        let length = self.number(size)?;
        self.take(length).and_then(utf8).map(Value::Text)
    }

    /// Text that ends with a line feed.
    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
        let line = self.take(length).and_then(utf8)?;
        self.take(1)?;
        Ok(line)
    }

    /// The topmost value, which is above the last mark.
    fn top(&self) -> Result<Value<'a>, String> {
        let bottom = self.marks.last().map_or(0, |&mark| mark);
        self.stack[bottom..].last().copied().ok_or_else(|| "its pickle uses an empty stack".to_string())
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    /// The values above the last mark.
    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("its pickle uses a mark that is not there")?;
        Ok(self.stack.split_off(mark))
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "its pickle has text that is not UTF-8".to_string())
}

/// A little-endian integer in two's complement.
fn signed(bytes: &[u8]) -> Result<i128, String> {
    if bytes.len() > size_of::<i128>() {
        return Err("it has an integer of more than 128 bits".to_string());
    }
    let sign = if bytes.last().is_some_and(|byte| byte >> 7 == 1) { -1 } else { 0 };
    Ok(bytes.iter().rev().fold(sign, |number, &byte| number << 8 | i128::from(byte)))
}
