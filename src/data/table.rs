//! Tables from CSV files: which columns are read, and their rows as tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::dataset::check_indices;
use crate::cpu::host_list;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Metadata;
use crate::tensor::Tensor;

/// The size limit of CSV files: 1 GiB.
pub const MAX_CSV_BYTES: u64 = 1 << 30;

/// Which columns of a CSV file are features and targets, by the names in its header. Other columns are ignored.
///
/// Fields are separated by commas and may be quoted, as in RFC 4180: `"a, ""b"""`. Lines end with LF, CR or CRLF; blank ones
/// are skipped. Spaces around a field do not count, and neither does a byte order mark. The crate `csv` reads them.
///
/// ```
/// # use gristmill::data::Csv;
/// let csv = Csv::new().numbers(["length", "mass"]).categories(["island"]).target_class("species");
/// let table = csv.parse("species,island,length,mass\nGentoo,Biscoe,46.1,4500\nAdelie,Dream,39.5,NA\n")?;
/// assert_eq!(table.feature_names(), ["length", "mass", "island=Biscoe", "island=Dream"]);
/// assert_eq!(table.drop_missing()?.features()?.to_vec()?, [46.1, 4500.0, 1.0, 0.0]);
/// assert_eq!((table.categories("species")?, table.targets()?.to_ids()?), (&["Adelie".into(), "Gentoo".into()][..], vec![1, 0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    columns: Vec<Column>,
    delimiter: u8,
    missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    is_target: bool,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Number,
    /// The categories in the order of their ids; `None` until a file is read.
    Category(Option<Vec<String>>),
}

impl Default for Csv {
    fn default() -> Csv {
        Csv { columns: Vec::new(), delimiter: b',', missing: ["", "NA", "NaN"].map(String::from).to_vec() }
    }
}

impl Csv {
    /// Without columns yet. Fields are separated by commas; the words for a missing value are the empty one, `NA` and
    /// `NaN`.
    pub fn new() -> Csv {
        Csv::default()
    }

    /// Adds features that are numbers.
    pub fn numbers(self, names: impl IntoIterator<Item: Into<String>>) -> Csv {
        self.with(names, false, Kind::Number)
    }

    /// Adds features that are words: each becomes as many columns of zeros and ones as there are different words, its
    /// categories.
    pub fn categories(self, names: impl IntoIterator<Item: Into<String>>) -> Csv {
        self.with(names, false, Kind::Category(None))
    }

    /// Adds a target that is a number. There may be several.
    pub fn target_number(self, name: impl Into<String>) -> Csv {
        self.with([name], true, Kind::Number)
    }

    /// Sets the target to the class that this column names.
    pub fn target_class(self, name: impl Into<String>) -> Csv {
        self.with([name], true, Kind::Category(None))
    }

    /// Sets the words for a missing value.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().numbers(["a"]).missing(["?"]).parse("a\n1\n?\n")?;
    /// assert_eq!(table.missing(), [("a", 1)]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn missing(self, words: impl IntoIterator<Item: Into<String>>) -> Csv {
        Csv { missing: words.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the character between fields, such as `b';'` or a tab, `b'\t'`.
    pub fn delimiter(self, delimiter: u8) -> Csv {
        Csv { delimiter, ..self }
    }

    /// Without the targets, for files of samples whose targets are to be predicted.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let csv = Csv::new().numbers(["area"]).target_number("price");
    /// let unsold = csv.features_only().parse("area\n20\n")?;
    /// assert_eq!(unsold.features()?.to_vec()?, [20.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn features_only(mut self) -> Csv {
        self.columns.retain(|column| !column.is_target);
        self
    }

    fn with(mut self, names: impl IntoIterator<Item: Into<String>>, is_target: bool, kind: Kind) -> Csv {
        let column = |name: _| Column { name: Into::into(name), is_target, kind: kind.clone() };
        self.columns.extend(names.into_iter().map(column));
        self
    }

    /// Reads a file.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("rooms.csv");
    /// # std::fs::write(&path, "area;price\n20;100\n30;many\n").unwrap();
    /// let csv = Csv::new().numbers(["area"]).target_number("price").delimiter(b';');
    /// let message = csv.read(&path).unwrap_err().to_string();
    /// assert!(message.ends_with(r#"rooms.csv: line 3, column price: "many" is not a finite number"#));
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] with the path if the file can't be read or is larger than [`MAX_CSV_BYTES`], or as
    /// [`Csv::parse`].
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Table> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_CSV_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::file(path, format!("cannot read: {error}")))?;
        if bytes.len() as u64 > MAX_CSV_BYTES {
            return Err(Error::file(
                path,
                format!("over {MAX_CSV_BYTES} bytes, too large for a CSV file here"),
            ));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let lines = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            Error::file(path, format!("line {}: is not UTF-8", lines + 1))
        })?;
        self.table(text).map_err(|message| Error::file(path, message))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A header without one of the columns, or with two of its name; a row with more or fewer fields than the header; a
    /// field that is not a finite number where one is expected; a category that [`Table::csv`] does not know; a quote that
    /// is not closed. The message has the line. Also no columns, two of one name, or a class beside another target.
    #[track_caller]
    pub fn parse(&self, text: &str) -> Result<Table> {
        self.table(text).map_err(|message| Error::argument("Csv", message))
    }

    fn check(&self) -> Result<(), String> {
        let name = |column: &Column| column.name.clone();
        if self.columns.is_empty() {
            return Err("no column was named; see Csv::numbers".to_string());
        }
        for (at, column) in self.columns.iter().enumerate() {
            if self.columns[..at].iter().any(|before| before.name == column.name) {
                return Err(format!("the column {} was named twice", column.name));
            }
        }
        let targets: Vec<&Column> = self.columns.iter().filter(|column| column.is_target).collect();
        if targets.len() > 1 && targets.iter().any(|target| target.kind != Kind::Number) {
            let names: Vec<String> = targets.into_iter().map(name).collect();
            return Err(format!("the targets {}; a class must be the only one", names.join(", ")));
        }
        match self.delimiter {
            c @ (b'"' | b'\n' | b'\r' | b' ' | 128..) => {
                Err(format!("{:?} can't separate fields", char::from(c)))
            }
            _ => Ok(()),
        }
    }

    fn table(&self, text: &str) -> Result<Table, String> {
        self.check()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new();
        // Rows of another length are refused below, with the line.
        reader.delimiter(self.delimiter).trim(csv::Trim::All).flexible(true);
        let mut reader = reader.from_reader(text.as_bytes());
        let header: Vec<String> =
            reader.headers().map_err(|e| e.to_string())?.iter().map(String::from).collect();
        if header.is_empty() {
            return Err("is empty; a header is expected".to_string());
        }
        let mut columns = Vec::new();
        for column in &self.columns {
            let mut places = (0..header.len()).filter(|&at| header[at] == column.name);
            match (places.next(), places.next()) {
                (Some(at), None) => columns.push((at, column, Reader::new(&column.kind))),
                (Some(_), Some(_)) => return Err(format!("two columns are named {}", column.name)),
                (None, _) => {
                    return Err(format!(
                        "no column is named {}; there are {}",
                        column.name,
                        header.join(", ")
                    ));
                }
            }
        }
        let mut rows = 0;
        let mut fields = csv::StringRecord::new();
        while reader.read_record(&mut fields).map_err(|error| error.to_string())? {
            let line = line_of(text, fields.position());
            if fields.len() != header.len() {
                let count = fields.len();
                return Err(format!("line {line}: {count} fields where the header has {}", header.len()));
            }
            for (at, column, reader) in &mut columns {
                let field = &fields[*at];
                let is_missing = self.missing.iter().any(|word| word == field);
                let wrong = |why: String| format!("line {line}, column {}: {field:?} is {why}", column.name);
                reader.add((!is_missing).then_some(field)).map_err(wrong)?;
            }
            rows += 1;
        }
        let mut csv = self.clone();
        let mut cells = Vec::new();
        for ((_, _, reader), column) in columns.into_iter().zip(&mut csv.columns) {
            let (kind, values) = reader.finish();
            column.kind = kind;
            cells.push(values);
        }
        Ok(Table { csv, rows, cells })
    }

    /// Stores this in the metadata of a file, such as a checkpoint, under a name. With [`Table::csv`] this has the
    /// categories as well, so that [`Csv::load`] gives other files the same ids.
    ///
    /// ```
    /// # use gristmill::{data::Csv, io::Metadata};
    /// let table = Csv::new().categories(["island"]).parse("island\nDream\nBiscoe\n")?;
    /// let mut metadata = Metadata::new();
    /// table.csv().save(&mut metadata, "csv");
    /// let one = Csv::load(&metadata, "csv")?.parse("island\nDream\n")?;
    /// assert_eq!(one.features()?.to_vec()?, [0.0, 1.0]); // Biscoe is still known
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn save(&self, metadata: &mut Metadata, name: &str) {
        let column = |Column { name, is_target, kind }: &Column| {
            let (is_number, categories) = match kind {
                Kind::Number => (true, &None),
                Kind::Category(categories) => (false, categories),
            };
            json!({ "name": name, "target": is_target, "number": is_number, "categories": categories })
        };
        let columns: Vec<Value> = self.columns.iter().map(column).collect();
        let all = json!({ "columns": columns, "delimiter": char::from(self.delimiter).to_string(), "missing": self.missing });
        metadata.insert(name.to_string(), all.to_string());
    }

    /// What [`Csv::save`] stored under this name.
    ///
    /// # Errors
    /// Nothing is stored there, or something else.
    #[track_caller]
    pub fn load(metadata: &Metadata, name: &str) -> Result<Csv> {
        let wrong = |what: &str| Error::argument("Csv::load", format!("the metadata has {what} {name}"));
        let text = metadata.get(name).ok_or_else(|| wrong("nothing under the name"))?;
        let all = serde_json::from_str(text).unwrap_or(Value::Null);
        parsed(&all).ok_or_else(|| wrong("no columns under the name"))
    }
}

fn parsed(all: &Value) -> Option<Csv> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let list = |value: &Value| value.as_array()?.iter().map(text).collect::<Option<Vec<String>>>();
    let column = |value: &Value| {
        let kind = match (value.get("number")?.as_bool()?, value.get("categories")?) {
            (true, _) => Kind::Number,
            (false, Value::Null) => Kind::Category(None),
            (false, categories) => {
                let categories = list(categories)?;
                // Ids are in this order.
                let is_sorted = categories.windows(2).all(|pair| pair[0] < pair[1]);
                Kind::Category(Some(is_sorted.then_some(categories)?))
            }
        };
        Some(Column { name: text(value.get("name")?)?, is_target: value.get("target")?.as_bool()?, kind })
    };
    Some(Csv {
        columns: all.get("columns")?.as_array()?.iter().map(column).collect::<Option<_>>()?,
        delimiter: all.get("delimiter")?.as_str()?.bytes().next()?,
        missing: list(all.get("missing")?)?,
    })
}

/// The line of a record, from 1. Its position is that of the blank lines before it.
fn line_of(text: &str, position: Option<&csv::Position>) -> u64 {
    let (byte, line) = position.map_or((0, 1), |position| (position.byte() as usize, position.line()));
    let blank = text.bytes().skip(byte).take_while(|byte| b"\r\n".contains(byte));
    line + blank.filter(|&byte| byte == b'\n').count() as u64
}

/// Reads the cells of a column. Missing ones are NaN.
struct Reader {
    values: Vec<f64>,
    /// The id of each category.
    ids: Option<BTreeMap<String, usize>>,
    /// Whether these are all categories.
    is_complete: bool,
}

impl Reader {
    fn new(kind: &Kind) -> Reader {
        let (ids, is_complete) = match kind {
            Kind::Number => (None, false),
            Kind::Category(None) => (Some(BTreeMap::new()), false),
            Kind::Category(Some(known)) => (Some(known.iter().cloned().zip(0..).collect()), true),
        };
        Reader { values: Vec::new(), ids, is_complete }
    }

    /// # Errors
    /// What is wrong with the field.
    fn add(&mut self, field: Option<&str>) -> Result<(), String> {
        let value = match (field, &mut self.ids) {
            (None, _) => f64::NAN,
            (Some(field), None) => match field.parse::<f32>() {
                Ok(number) if number.is_finite() => f64::from(number),
                _ => return Err("not a finite number".to_string()),
            },
            (Some(field), Some(ids)) => {
                let id = match ids.get(field) {
                    Some(&id) => id,
                    None if self.is_complete => {
                        let known: Vec<&str> = ids.keys().map(String::as_str).collect();
                        return Err(format!("none of the categories {}", known.join(", ")));
                    }
                    None => {
                        let id = ids.len();
                        ids.insert(field.to_string(), id);
                        id
                    }
                };
                id as f64
            }
        };
        self.values.push(value);
        Ok(())
    }

    /// Categories get ids in sorted order, as those known before have.
    fn finish(mut self) -> (Kind, Vec<f64>) {
        let Some(ids) = self.ids else { return (Kind::Number, self.values) };
        let mut sorted = vec![0.0; ids.len()];
        ids.values().zip(0..).for_each(|(&id, place)| sorted[id] = f64::from(place));
        let known = self.values.iter_mut().filter(|value| !value.is_nan());
        known.for_each(|value| *value = sorted[*value as usize]);
        (Kind::Category(Some(ids.into_keys().collect())), self.values)
    }
}

/// The rows of a CSV file, as [`Csv::parse`] read them.
///
/// ```
/// # use gristmill::data::Csv;
/// let csv = Csv::new().numbers(["area", "rooms"]).target_number("price");
/// let table = csv.parse("price,area,rooms\n100,20,1\n140,30,2\n")?;
/// assert!(table.len() == 2 && !table.is_empty());
/// assert_eq!(table.features()?.to_vec()?, [20.0, 1.0, 30.0, 2.0]);
/// assert_eq!((table.targets()?.shape()[..].to_vec(), table.targets()?.to_vec()?), (vec![2, 1], vec![100.0, 140.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    /// With all categories.
    csv: Csv,
    rows: usize,
    /// By column: numbers, or ids of categories. NaN: missing.
    cells: Vec<Vec<f64>>,
}

impl Table {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What this was read by, with the categories found, so that it gives the columns of other files the same ids.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().categories(["island"]).parse("island\nDream\nBiscoe\n")?;
    /// let one = table.csv().parse("island\nDream\n")?;
    /// assert_eq!(one.column("island")?.to_ids()?, [1]); // as in the first table
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn csv(&self) -> &Csv {
        &self.csv
    }

    /// How many values each column misses.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().numbers(["a", "b"]).parse("a,b\n1,2\nNA,3\n,4\n")?;
    /// assert_eq!(table.missing(), [("a", 2), ("b", 0)]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn missing(&self) -> Vec<(&str, usize)> {
        let count = |cells: &Vec<f64>| cells.iter().filter(|value| value.is_nan()).count();
        self.csv
            .columns
            .iter()
            .zip(&self.cells)
            .map(|(column, cells)| (&*column.name, count(cells)))
            .collect()
    }

    /// The rows that miss nothing. [`SimpleImputer`](super::SimpleImputer) fills in features instead.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().numbers(["a"]).parse("a\n1\nNA\n3\n")?;
    /// assert_eq!(table.drop_missing()?.features()?.to_vec()?, [1.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn drop_missing(&self) -> Result<Table> {
        let is_whole = |&row: &usize| self.cells.iter().all(|cells| !cells[row].is_nan());
        let mut whole = host_list(self.rows)?;
        whole.extend((0..self.rows).filter(is_whole));
        self.rows(&whole)
    }

    /// These rows, in this order, such as a part of [`random_split`](super::random_split) or a fold of
    /// [`k_fold`](super::k_fold).
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().numbers(["a"]).parse("a\n5\n6\n7\n")?;
    /// assert_eq!(table.rows(&[2, 0])?.features()?.to_vec()?, [7.0, 5.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// An index out of range, or no room.
    #[track_caller]
    pub fn rows(&self, indices: &[usize]) -> Result<Table> {
        check_indices("Table", indices, self.rows)?;
        let mut cells = Vec::new();
        for all in &self.cells {
            let mut some = host_list(indices.len())?;
            some.extend(indices.iter().map(|&row| all[row]));
            cells.push(some);
        }
        Ok(Table { csv: self.csv.clone(), rows: indices.len(), cells })
    }

    fn features_by_column(&self) -> impl Iterator<Item = (&Column, &Vec<f64>)> {
        self.csv.columns.iter().zip(&self.cells).filter(|(column, _)| !column.is_target)
    }

    /// The names of the columns of [`Table::features`]: `mass`, `island=Dream`.
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let csv = Csv::new().numbers(["mass"]).categories(["island"]);
    /// let table = csv.parse("island,mass\nDream,3\nBiscoe,4\n")?;
    /// assert_eq!(table.feature_names(), ["mass", "island=Biscoe", "island=Dream"]);
    /// assert_eq!(table.categories("island")?, ["Biscoe", "Dream"]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn feature_names(&self) -> Vec<String> {
        let names = self.features_by_column().map(|(column, _)| match &column.kind {
            Kind::Category(Some(categories)) => {
                categories.iter().map(|category| format!("{}={category}", column.name)).collect()
            }
            _ => vec![column.name.clone()],
        });
        names.flatten().collect()
    }

    /// The features, `[rows, columns]`: numbers as they are, and for each category of a word a column with 1 where it is
    /// this category, else 0. What is missing is NaN, in each column of a category. On [`Device::cpu`].
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn features(&self) -> Result<Tensor> {
        let width = |column: &Column| match &column.kind {
            Kind::Category(Some(categories)) => categories.len(),
            _ => 1,
        };
        let columns: Vec<_> =
            self.features_by_column().map(|(column, cells)| (width(column), column, cells)).collect();
        let count = columns.iter().map(|&(width, ..)| width).sum();
        let mut values = host_list(self.rows.saturating_mul(count))?;
        for row in 0..self.rows {
            for &(width, column, cells) in &columns {
                let value = cells[row];
                match column.kind {
                    Kind::Number => values.push(value as f32),
                    Kind::Category(_) => values.extend((0..width).map(|id| match value {
                        value if value.is_nan() => f32::NAN,
                        value => f32::from(value == id as f64),
                    })),
                }
            }
        }
        Tensor::from_slice(&values, [self.rows, count], &Device::cpu())
    }

    /// The targets: class ids `[rows]`, or numbers `[rows, targets]`. On [`Device::cpu`].
    ///
    /// # Errors
    /// No column is a target, or one has a missing value; no room.
    #[track_caller]
    pub fn targets(&self) -> Result<Tensor> {
        let targets: Vec<&Column> = self.csv.columns.iter().filter(|column| column.is_target).collect();
        match targets[..] {
            [] => Err(Error::argument("Table::targets", "no target was named; see Csv::target_class")),
            [Column { kind: Kind::Category(_), name, .. }] => self.column(name),
            _ => {
                let columns =
                    targets.iter().map(|target| self.column(&target.name)).collect::<Result<Vec<_>>>()?;
                let columns = columns.iter().map(Tensor::to_vec).collect::<Result<Vec<_>>>()?;
                let mut values = host_list(self.rows.saturating_mul(columns.len()))?;
                values.extend((0..self.rows).flat_map(|row| columns.iter().map(move |column| column[row])));
                Tensor::from_slice(&values, [self.rows, columns.len()], &Device::cpu())
            }
        }
    }

    #[track_caller]
    fn find(&self, op: &'static str, name: &str) -> Result<usize> {
        let place = self.csv.columns.iter().position(|column| column.name == name);
        place.ok_or_else(|| {
            let names: Vec<&str> = self.csv.columns.iter().map(|column| &*column.name).collect();
            Error::argument(op, format!("no column {name} was read; there are {}", names.join(", ")))
        })
    }

    /// One column, `[rows]`: numbers, or the ids of categories, as an embedding takes them. On [`Device::cpu`].
    ///
    /// ```
    /// # use gristmill::data::Csv;
    /// let table = Csv::new().categories(["island"]).parse("island\nDream\nBiscoe\nDream\n")?;
    /// assert_eq!(table.column("island")?.to_ids()?, [1, 0, 1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such column was read, it has missing values, or no room.
    #[track_caller]
    pub fn column(&self, name: &str) -> Result<Tensor> {
        let at = self.find("Table::column", name)?;
        let cells = &self.cells[at];
        let missing = cells.iter().filter(|value| value.is_nan()).count();
        if missing > 0 {
            let message =
                format!("{name} is missing in {missing} of {} rows; see Table::drop_missing", self.rows);
            return Err(Error::argument("Table::column", message));
        }
        match self.csv.columns[at].kind {
            Kind::Number => {
                let mut values = host_list(self.rows)?;
                values.extend(cells.iter().map(|&value| value as f32));
                Tensor::from_slice(&values, [self.rows], &Device::cpu())
            }
            Kind::Category(_) => {
                let mut ids = host_list(self.rows)?;
                ids.extend(cells.iter().map(|&value| value as u32));
                Tensor::from_ids(&ids, [self.rows], &Device::cpu())
            }
        }
    }

    /// The categories of a column, sorted: the name of each id.
    ///
    /// # Errors
    /// No such column was read, or its values are numbers.
    #[track_caller]
    pub fn categories(&self, name: &str) -> Result<&[String]> {
        let op = "Table::categories";
        match &self.csv.columns[self.find(op, name)?].kind {
            Kind::Category(Some(categories)) => Ok(categories),
            _ => Err(Error::argument(op, format!("the column {name} has numbers"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(csv: &Csv, text: &str) -> String {
        csv.parse(text).unwrap_err().to_string()
    }

    fn words() -> Csv {
        Csv::new().categories(["a"]).numbers(["b"])
    }

    #[test]
    fn quotes_line_ends_and_marks_are_read_as_rfc_4180_says() {
        let expected = ["", "x", "x, \"y\"\nz"];
        let csv = words().missing(["NA"]);
        for text in [
            "a,b\n\"x, \"\"y\"\"\nz\",1\n x ,2\n,3\n",
            "a,b\r\n\"x, \"\"y\"\"\nz\",1\r\nx,2\r\n\"\",3",
            "\u{feff}b,c,a\n\n1,,\"x, \"\"y\"\"\nz\"\n\n2,\"?\",\"x\"\n3,,\n\n",
            "a;b\r\"x, \"\"y\"\"\nz\";1\r\rx; 2 \r;3\r",
        ] {
            let delimiter = if text.contains(';') { b';' } else { b',' };
            let table = csv.clone().delimiter(delimiter).parse(text).unwrap();
            assert_eq!(table.categories("a").unwrap(), expected, "{text:?}");
            assert_eq!(table.column("a").unwrap().to_ids().unwrap(), [2, 1, 0]);
            assert_eq!(table.column("b").unwrap().to_vec().unwrap(), [1.0, 2.0, 3.0]);
        }
    }

    #[test]
    fn faults_of_a_text_are_told_with_their_line() {
        let csv = words();
        let cases = [
            ("a,b\nx,1\nx,1,2\n", "line 3: 3 fields where the header has 2"),
            ("a,b\r\n\r\nx,1\r\nx\r\n", "line 4: 1 fields"),
            ("a,b\nx,1\n\n\"x\ny\",two\n", "line 4, column b: \"two\" is not a finite number"),
            ("a,b\n\"x\ny\",2\nx,1e99", "line 4, column b: \"1e99\" is not a finite number"),
            ("a,b\nx,inf\n", "line 2, column b: \"inf\" is not"),
            ("a,b\nx,nan\n", "line 2, column b: \"nan\" is not"),
            ("a,b\nx,1\n\"x,1\n", "line 3: 1 fields"),
            ("a,c\nx,1\n", "no column is named b; there are a, c"),
            ("a,b,b\nx,1,1\n", "two columns are named b"),
            ("\n\r\n", "is empty; a header is expected"),
        ];
        for (text, expected) in cases {
            let message = message(&csv, text);
            assert!(message.contains(expected), "{message:?} should have {expected:?}");
        }
    }

    #[test]
    fn columns_that_make_no_table_are_refused() {
        let text = "a,b\nx,1\n";
        assert!(message(&Csv::new(), text).contains("no column was named"));
        assert!(message(&words().target_number("b"), text).contains("the column b was named twice"));
        let both = Csv::new().target_class("a").target_number("b");
        assert!(message(&both, text).contains("the targets a, b; a class must be the only one"));
        for delimiter in [b'"', b'\n', b' ', 0xe9] {
            assert!(message(&words().delimiter(delimiter), text).contains("can't separate"));
        }
        let table = words().parse(text).unwrap();
        assert!(table.targets().unwrap_err().to_string().contains("no target"));
        assert!(table.column("c").unwrap_err().to_string().contains("there are a, b"));
        assert!(table.categories("b").unwrap_err().to_string().contains("has numbers"));
        assert!(table.rows(&[1]).unwrap_err().to_string().contains("index 1 of 1"));
    }

    #[test]
    fn what_is_missing_stays_so_until_it_is_dropped() {
        let csv = words().target_number("c");
        let table = csv.parse("a,b,c\nx,1,1\nNA,2,2\ny,,3\ny,NaN,4\nx,5,NA\n").unwrap();
        assert_eq!(table.missing(), [("a", 1), ("b", 2), ("c", 1)]);
        let features = table.features().unwrap().to_vec().unwrap();
        // x, y, b; a missing category is missing in both of its columns.
        let expected = "[1.0, 0.0, 1.0, NaN, NaN, 2.0, 0.0, 1.0, NaN, 0.0, 1.0, NaN, 1.0, 0.0, 5.0]";
        assert_eq!(format!("{features:?}"), expected);
        let message = table.targets().unwrap_err().to_string();
        assert!(message.contains("c is missing in 1 of 5 rows; see Table::drop_missing"), "{message}");
        let whole = table.drop_missing().unwrap();
        assert_eq!((whole.len(), whole.is_empty()), (1, false));
        assert_eq!(whole.targets().unwrap().to_vec().unwrap(), [1.0]);
        assert_eq!(whole.targets().unwrap().shape(), [1, 1]);
        // Other words, and an empty field is a category then.
        let table = words().missing(["-"]).parse("a,b\n,-\n").unwrap();
        assert_eq!(table.missing(), [("a", 0), ("b", 1)]);
    }

    #[test]
    fn categories_of_one_file_hold_for_another() {
        let first = words().target_class("c").parse("a,b,c\nx,1,u\nz,1,v\n").unwrap();
        let again = first.csv().clone().features_only();
        assert_eq!(again.parse("a,b\nz,1\n").unwrap().features().unwrap().to_vec().unwrap(), [0.0, 1.0, 1.0]);
        let message = message(&again, "a,b\nx,1\ny,1\n");
        assert!(message.contains("line 3, column a: \"y\" is none of the categories x, z"), "{message}");
        let mut metadata = Metadata::new();
        first.csv().save(&mut metadata, "csv");
        words().delimiter(b'\t').save(&mut metadata, "fresh");
        assert_eq!(&Csv::load(&metadata, "csv").unwrap(), first.csv());
        assert_eq!(Csv::load(&metadata, "fresh").unwrap(), words().delimiter(b'\t'));
        let twice = metadata["csv"].replace(r#"["x","z"]"#, r#"["x","x"]"#);
        assert_ne!(twice, metadata["csv"]);
        for text in ["", "{}", "[1]", r#"{"columns":[{}],"delimiter":",","missing":[]}"#, &*twice] {
            metadata.insert("csv".to_string(), text.to_string());
            assert!(
                Csv::load(&metadata, "csv")
                    .unwrap_err()
                    .to_string()
                    .contains("no columns under the name csv")
            );
        }
        assert!(
            Csv::load(&metadata, "none").unwrap_err().to_string().contains("nothing under the name none")
        );
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin1.csv");
        std::fs::write(&path, b"a,b\nx,1\nG\xf6teborg,2\n").unwrap();
        let message = words().read(&path).unwrap_err().to_string();
        assert!(message.ends_with("latin1.csv: line 3: is not UTF-8"), "{message}");
        let message = words().read(dir.path().join("none.csv")).unwrap_err().to_string();
        assert!(message.contains("none.csv: cannot read"), "{message}");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(text in "[ab,;\"\r\n 1x\u{feff}é]{0,60}") {
            let _ = words().parse(&text);
            let _ = words().parse(&format!("a,b\n{text}"));
        }

        #[test]
        fn quoted_fields_come_back_without_the_spaces_around_them(fields in proptest::collection::vec("[ab,\"\r\n é]{0,6}", 1..6)) {
            let quoted = fields.iter().map(|field| format!("\"{}\",1\n", field.replace('"', "\"\"")));
            let text = format!("a,b\n{}", quoted.collect::<String>());
            let table = words().missing(["NA"]).parse(&text).unwrap();
            let categories = table.categories("a").unwrap();
            let ids = table.column("a").unwrap().to_ids().unwrap();
            let read: Vec<&str> = ids.iter().map(|&id| &*categories[id as usize]).collect();
            let trimmed: Vec<&str> = fields.iter().map(|field| field.trim()).collect();
            prop_assert_eq!(read, trimmed);
        }
    }
}
