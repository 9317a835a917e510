//! Preprocessing that is fitted on the training rows, applied to all, and saved with the model: scikit-learn's
//! `sklearn.preprocessing` and `sklearn.impute`.
//!
//! Statistics are computed in f64 on the host, over the values that are not NaN, which stands for a missing value.

use crate::cpu::host_list;
use crate::error::{Error, Result};
use crate::io::Metadata;
use crate::tensor::Tensor;

/// The elements of `[rows, columns]`, and the number of columns.
#[track_caller]
fn matrix(op: &'static str, x: &Tensor) -> Result<(Vec<f32>, usize)> {
    match x.shape()[..] {
        [_, columns] => Ok((x.to_vec()?, columns)),
        _ => Err(Error::shape(op, format!("shape {} where [rows, columns] is expected", x.shape()))),
    }
}

/// A number from the values of each column that are not NaN.
///
/// # Errors
/// A shape other than `[rows, columns]`, an infinite value, or a column without a value.
#[track_caller]
fn by_column<T>(op: &'static str, x: &Tensor, of: impl Fn(Vec<f64>) -> T) -> Result<Vec<T>> {
    let (values, columns) = matrix(op, x)?;
    if let Some(at) = values.iter().position(|value| value.is_infinite()) {
        let place = format!("row {}, column {}", at / columns, at % columns);
        return Err(Error::argument(
            op,
            format!("{} in {place}; it takes finite numbers and NaN", values[at]),
        ));
    }
    let column = |at: usize| {
        let mut known = host_list(values.len() / columns)?;
        let column = values.iter().skip(at).step_by(columns).filter(|value| !value.is_nan());
        known.extend(column.map(|&value| f64::from(value)));
        if known.is_empty() {
            let message = format!("column {at} of shape {} has no value to fit", x.shape());
            return Err(Error::argument(op, message));
        }
        Ok(of(known))
    };
    (0..columns).map(column).collect()
}

/// Maps the elements of `[rows, columns]` by a function of column and value.
///
/// # Errors
/// Not the number of columns that was fitted.
#[track_caller]
fn map(op: &'static str, x: &Tensor, fitted: usize, f: impl Fn(usize, f64) -> f64) -> Result<Tensor> {
    let (mut values, columns) = matrix(op, x)?;
    if columns != fitted {
        let message = format!("shape {}, but it was fitted to {fitted} columns", x.shape());
        return Err(Error::shape(op, message));
    }
    for row in values.chunks_exact_mut(columns.max(1)) {
        row.iter_mut().enumerate().for_each(|(at, value)| *value = f(at, f64::from(*value)) as f32);
    }
    Tensor::from_slice(&values, x.shape(), x.device())
}

/// Stores numbers in metadata, in decimals that give the same bits again.
fn store(metadata: &mut Metadata, name: &str, field: &str, numbers: &[f64]) {
    let words: Vec<String> = numbers.iter().map(|number| format!("{number:?}")).collect();
    metadata.insert(format!("{name}.{field}"), words.join(" "));
}

/// The two lists of numbers that [`store`] stored, of the same length.
#[track_caller]
fn stored(op: &'static str, metadata: &Metadata, name: &str, fields: [&str; 2]) -> Result<[Vec<f64>; 2]> {
    let read = |field: &str| {
        let wrong = |what: &str| Error::argument(op, format!("the metadata has {what} {name}.{field}"));
        let text = metadata.get(&format!("{name}.{field}")).ok_or_else(|| wrong("nothing under the name"))?;
        let numbers =
            text.split_whitespace().map(|word| word.parse().ok().filter(|number: &f64| number.is_finite()));
        numbers.collect::<Option<Vec<f64>>>().ok_or_else(|| wrong("no list of numbers under the name"))
    };
    let [a, b] = [read(fields[0])?, read(fields[1])?];
    if a.len() != b.len() {
        let lengths = format!("{} and {} numbers for {}", a.len(), b.len(), fields.join(" and "));
        return Err(Error::argument(op, format!("the metadata has {lengths} of {name}")));
    }
    Ok([a, b])
}

/// Makes the mean of each column 0 and its standard deviation 1: scikit-learn's `StandardScaler`.
///
/// `(x - mean) / scale`, where `scale` is the population standard deviation. That of a constant column is 1, so the
/// column becomes 0.
///
/// ```
/// # use gristmill::{Device, Tensor, data::StandardScaler};
/// let train = Tensor::from_slice(&[1.0, 5.0, 3.0, 5.0], [2, 2], &Device::cpu())?;
/// let scaler = StandardScaler::fit(&train)?;
/// assert_eq!((scaler.mean(), scaler.scale()), (&[2.0, 5.0][..], &[1.0, 1.0][..]));
/// let scaled = scaler.transform(&train)?;
/// assert_eq!(scaled.to_vec()?, [-1.0, 0.0, 1.0, 0.0]);
/// assert_eq!(scaler.inverse_transform(&scaled)?.to_vec()?, train.to_vec()?);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StandardScaler {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl StandardScaler {
    /// Measures the columns of the training rows, `[rows, columns]`. NaN does not count.
    ///
    /// # Errors
    /// Another shape, an infinite value, a column without a value, or a device that fails.
    #[track_caller]
    pub fn fit(x: &Tensor) -> Result<StandardScaler> {
        let measure = |values: Vec<f64>| {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // What rounding leaves of 0 by the bound of scikit-learn's `_is_constant_feature`, after Chan, Golub & LeVeque,
            // "Algorithms for computing the sample variance" (1983).
            let rounding = count * f64::EPSILON * variance + (count * mean * f64::EPSILON).powi(2);
            (mean, if variance <= rounding { 1.0 } else { variance.sqrt() })
        };
        let (mean, scale) = by_column("StandardScaler::fit", x, measure)?.into_iter().unzip();
        Ok(StandardScaler { mean, scale })
    }

    /// The mean of each column.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// What each column is divided by: its standard deviation, or 1.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Scales `[rows, columns]`, on its device. NaN stays.
    ///
    /// # Errors
    /// Another number of columns than fitted, or a device that fails.
    #[track_caller]
    pub fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let scaled = |at: usize, value: f64| (value - self.mean[at]) / self.scale[at];
        map("StandardScaler::transform", x, self.mean.len(), scaled)
    }

    /// Undoes [`StandardScaler::transform`].
    ///
    /// # Errors
    /// As [`StandardScaler::transform`].
    #[track_caller]
    pub fn inverse_transform(&self, x: &Tensor) -> Result<Tensor> {
        let unscaled = |at: usize, value: f64| value * self.scale[at] + self.mean[at];
        map("StandardScaler::inverse_transform", x, self.mean.len(), unscaled)
    }

    /// Stores this in the metadata of a file, such as a checkpoint, under names that begin with `name`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, data::StandardScaler, io::Metadata};
    /// # let x = Tensor::from_slice(&[0.1, 0.7], [2, 1], &Device::cpu())?;
    /// # let scaler = StandardScaler::fit(&x)?;
    /// let mut metadata = Metadata::new();
    /// scaler.save(&mut metadata, "scaler"); // then nn::save_parameters_with(&model, path, &metadata)
    /// assert_eq!(StandardScaler::load(&metadata, "scaler")?, scaler);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn save(&self, metadata: &mut Metadata, name: &str) {
        store(metadata, name, "mean", &self.mean);
        store(metadata, name, "scale", &self.scale);
    }

    /// What [`StandardScaler::save`] stored under this name.
    ///
    /// # Errors
    /// Nothing is stored there, or something else.
    #[track_caller]
    pub fn load(metadata: &Metadata, name: &str) -> Result<StandardScaler> {
        let op = "StandardScaler::load";
        let [mean, scale] = stored(op, metadata, name, ["mean", "scale"])?;
        if scale.iter().any(|&scale| scale <= 0.0) {
            return Err(Error::argument(
                op,
                format!("the metadata has a scale of {name} that is not positive"),
            ));
        }
        Ok(StandardScaler { mean, scale })
    }
}

/// Moves the values of each column to 0 to 1: scikit-learn's `MinMaxScaler`.
///
/// `(x - min) / (max - min)`. A constant column becomes 0. Values that were not fitted may lie outside.
///
/// ```
/// # use gristmill::{Device, Tensor, data::MinMaxScaler};
/// let train = Tensor::from_slice(&[1.0, 5.0, 3.0, 5.0], [2, 2], &Device::cpu())?;
/// let scaler = MinMaxScaler::fit(&train)?;
/// assert_eq!((scaler.data_min(), scaler.data_max()), (&[1.0, 5.0][..], &[3.0, 5.0][..]));
/// let scaled = scaler.transform(&Tensor::from_slice(&[2.0, 5.0, 4.0, 6.0], [2, 2], &Device::cpu())?)?;
/// assert_eq!(scaled.to_vec()?, [0.5, 0.0, 1.5, 1.0]);
/// assert_eq!(scaler.inverse_transform(&scaled)?.to_vec()?, [2.0, 5.0, 4.0, 6.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MinMaxScaler {
    min: Vec<f64>,
    max: Vec<f64>,
}

impl MinMaxScaler {
    /// Measures the columns of the training rows, `[rows, columns]`. NaN does not count.
    ///
    /// # Errors
    /// As [`StandardScaler::fit`].
    #[track_caller]
    pub fn fit(x: &Tensor) -> Result<MinMaxScaler> {
        let measure = |values: Vec<f64>| {
            let ends = |(min, max): (f64, f64), &value: &f64| (min.min(value), max.max(value));
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), ends)
        };
        let (min, max) = by_column("MinMaxScaler::fit", x, measure)?.into_iter().unzip();
        Ok(MinMaxScaler { min, max })
    }

    /// The smallest value of each column.
    pub fn data_min(&self) -> &[f64] {
        &self.min
    }

    /// The largest value of each column.
    pub fn data_max(&self) -> &[f64] {
        &self.max
    }

    /// The length of a column's range, or 1.
    fn range(&self, at: usize) -> f64 {
        match self.max[at] - self.min[at] {
            0.0 => 1.0,
            range => range,
        }
    }

    /// Scales `[rows, columns]`, on its device. NaN stays.
    ///
    /// # Errors
    /// As [`StandardScaler::transform`].
    #[track_caller]
    pub fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let scaled = |at: usize, value: f64| (value - self.min[at]) / self.range(at);
        map("MinMaxScaler::transform", x, self.min.len(), scaled)
    }

    /// Undoes [`MinMaxScaler::transform`].
    ///
    /// # Errors
    /// As [`StandardScaler::transform`].
    #[track_caller]
    pub fn inverse_transform(&self, x: &Tensor) -> Result<Tensor> {
        let unscaled = |at: usize, value: f64| value * self.range(at) + self.min[at];
        map("MinMaxScaler::inverse_transform", x, self.min.len(), unscaled)
    }

    /// As [`StandardScaler::save`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, data::MinMaxScaler, io::Metadata};
    /// # let x = Tensor::from_slice(&[0.1, 0.7], [2, 1], &Device::cpu())?;
    /// # let scaler = MinMaxScaler::fit(&x)?;
    /// let mut metadata = Metadata::new();
    /// scaler.save(&mut metadata, "scaler");
    /// assert_eq!(MinMaxScaler::load(&metadata, "scaler")?, scaler);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn save(&self, metadata: &mut Metadata, name: &str) {
        store(metadata, name, "data_min", &self.min);
        store(metadata, name, "data_max", &self.max);
    }

    /// As [`StandardScaler::load`].
    ///
    /// # Errors
    /// Nothing is stored there, or something else.
    #[track_caller]
    pub fn load(metadata: &Metadata, name: &str) -> Result<MinMaxScaler> {
        let op = "MinMaxScaler::load";
        let [min, max] = stored(op, metadata, name, ["data_min", "data_max"])?;
        if min.iter().zip(&max).any(|(min, max)| min > max) {
            return Err(Error::argument(
                op,
                format!("the metadata has a data_min of {name} over its data_max"),
            ));
        }
        Ok(MinMaxScaler { min, max })
    }
}

/// What [`SimpleImputer`] puts in the place of missing values.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Strategy {
    /// The mean of the column.
    Mean,
    /// The median of the column; of two in the middle, their mean.
    Median,
    /// This number.
    Constant(f32),
}

/// Replaces NaN, which stands for a missing value: scikit-learn's `SimpleImputer`.
///
/// ```
/// # use gristmill::{Device, Tensor, data::{SimpleImputer, Strategy}};
/// let train = Tensor::from_slice(&[1.0, f32::NAN, 2.0, 6.0], [4, 1], &Device::cpu())?;
/// let mean = SimpleImputer::fit(&train, Strategy::Mean)?;
/// assert_eq!(mean.transform(&train)?.to_vec()?, [1.0, 3.0, 2.0, 6.0]);
/// let median = SimpleImputer::fit(&train, Strategy::Median)?;
/// assert_eq!(median.statistics(), [2.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SimpleImputer {
    statistics: Vec<f64>,
}

impl SimpleImputer {
    /// Measures the columns of the training rows, `[rows, columns]`.
    ///
    /// # Errors
    /// As [`StandardScaler::fit`], or a constant that is not finite.
    #[track_caller]
    pub fn fit(x: &Tensor, strategy: Strategy) -> Result<SimpleImputer> {
        let op = "SimpleImputer::fit";
        let statistics = match strategy {
            Strategy::Constant(constant) if !constant.is_finite() => {
                return Err(Error::argument(op, format!("the constant {constant}; it must be finite")));
            }
            // A column may have no value.
            Strategy::Constant(constant) => vec![f64::from(constant); matrix(op, x)?.1],
            Strategy::Mean => by_column(op, x, |values| values.iter().sum::<f64>() / values.len() as f64)?,
            Strategy::Median => by_column(op, x, |mut values| {
                values.sort_unstable_by(f64::total_cmp);
                (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
            })?,
        };
        Ok(SimpleImputer { statistics })
    }

    /// What replaces NaN in each column.
    pub fn statistics(&self) -> &[f64] {
        &self.statistics
    }

    /// Replaces NaN in `[rows, columns]`, on its device.
    ///
    /// # Errors
    /// As [`StandardScaler::transform`].
    #[track_caller]
    pub fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let filled = |at: usize, value: f64| if value.is_nan() { self.statistics[at] } else { value };
        map("SimpleImputer::transform", x, self.statistics.len(), filled)
    }

    /// As [`StandardScaler::save`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, data::{SimpleImputer, Strategy}, io::Metadata};
    /// # let x = Tensor::from_slice(&[0.1, 0.7], [2, 1], &Device::cpu())?;
    /// # let imputer = SimpleImputer::fit(&x, Strategy::Mean)?;
    /// let mut metadata = Metadata::new();
    /// imputer.save(&mut metadata, "imputer");
    /// assert_eq!(SimpleImputer::load(&metadata, "imputer")?, imputer);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn save(&self, metadata: &mut Metadata, name: &str) {
        store(metadata, name, "statistics", &self.statistics);
    }

    /// As [`StandardScaler::load`].
    ///
    /// # Errors
    /// Nothing is stored there, or something else.
    #[track_caller]
    pub fn load(metadata: &Metadata, name: &str) -> Result<SimpleImputer> {
        let [statistics, _] = stored("SimpleImputer::load", metadata, name, ["statistics"; 2])?;
        Ok(SimpleImputer { statistics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    const NAN: f32 = f32::NAN;

    fn rows<const N: usize>(rows: &[[f32; N]]) -> Tensor {
        Tensor::from_slice(rows.as_flattened(), [rows.len(), N], &Device::cpu()).unwrap()
    }

    fn text(x: Result<Tensor>) -> String {
        format!("{:?}", x.unwrap().to_vec().unwrap())
    }

    #[test]
    fn standard_scaling_by_hand() {
        // Mean 4, deviation 2; a constant; 2 and 4 with one missing: mean 3, deviation 1.
        let x = rows(&[[2.0, 7.0, 2.0], [2.0, 7.0, NAN], [6.0, 7.0, 4.0], [6.0, 7.0, NAN]]);
        let scaler = StandardScaler::fit(&x).unwrap();
        assert_eq!((scaler.mean(), scaler.scale()), (&[4.0, 7.0, 3.0][..], &[2.0, 1.0, 1.0][..]));
        let scaled = scaler.transform(&x);
        assert_eq!(text(scaled), "[-1.0, 0.0, -1.0, -1.0, 0.0, NaN, 1.0, 0.0, 1.0, 1.0, 0.0, NaN]");
        assert_eq!(text(scaler.transform(&rows(&[[8.0, 8.0, NAN]]))), "[2.0, 1.0, NaN]");
        assert_eq!(text(scaler.inverse_transform(&rows(&[[2.0, 1.0, NAN]]))), "[8.0, 8.0, NaN]");
    }

    #[test]
    fn columns_that_only_rounding_makes_vary_count_as_constant() {
        // 0.1 as f32 has no short mean in f64; its sum is rounded.
        let x = Tensor::full([1000, 1], 0.1, &Device::cpu()).unwrap();
        let scaler = StandardScaler::fit(&x).unwrap();
        assert_eq!(scaler.scale(), [1.0]);
        assert!(scaler.transform(&x).unwrap().to_vec().unwrap().iter().all(|x| x.abs() < 1e-12));
        // A large mean with a small spread varies nevertheless: 1e6 and its neighbour, half of 1/16 apart.
        let scaler = StandardScaler::fit(&rows(&[[1e6], [1e6 + 0.0625]])).unwrap();
        assert_eq!(scaler.scale(), [0.03125]);
    }

    #[test]
    fn what_can_not_be_fitted_is_refused() {
        let fit = |x: &Tensor| StandardScaler::fit(x).unwrap_err().to_string();
        assert!(fit(&rows(&[[1.0, f32::INFINITY]])).contains("inf in row 0, column 1"));
        assert!(fit(&rows(&[[1.0, NAN]])).contains("column 1 of shape [1, 2] has no value"));
        assert!(fit(&rows::<2>(&[])).contains("has no value to fit"));
        assert!(fit(&Tensor::ones([3], &Device::cpu()).unwrap()).contains("shape [3] where [rows, columns]"));
        assert!(fit(&Tensor::from_ids(&[1], [1, 1], &Device::cpu()).unwrap()).contains("wants F32"));
        let scaler = StandardScaler::fit(&rows(&[[1.0], [2.0]])).unwrap();
        let message = scaler.transform(&rows(&[[1.0, 2.0]])).unwrap_err().to_string();
        assert!(message.contains("shape [1, 2], but it was fitted to 1 columns"), "{message}");
        let imputer = |strategy| SimpleImputer::fit(&rows(&[[NAN], [NAN]]), strategy);
        assert!(imputer(Strategy::Median).unwrap_err().to_string().contains("column 0"));
        assert!(imputer(Strategy::Constant(NAN)).unwrap_err().to_string().contains("must be finite"));
        assert_eq!(imputer(Strategy::Constant(2.5)).unwrap().statistics(), [2.5]);
        assert!(MinMaxScaler::fit(&rows(&[[NAN], [NAN]])).is_err());
        assert!(StandardScaler::fit(&rows::<0>(&[[], []])).unwrap().mean().is_empty());
    }

    #[test]
    fn a_median_of_an_even_count_is_between_the_two_in_the_middle() {
        let x = rows(&[[9.0], [1.0], [NAN], [2.0], [4.0]]);
        assert_eq!(SimpleImputer::fit(&x, Strategy::Median).unwrap().statistics(), [3.0]);
        assert_eq!(SimpleImputer::fit(&x, Strategy::Mean).unwrap().statistics(), [4.0]);
    }

    #[test]
    fn what_is_saved_comes_back_bit_for_bit() {
        let x = Tensor::randn([50, 3], 1e3, 1e-3, 4, &Device::cpu()).unwrap();
        let (standard, range) = (StandardScaler::fit(&x).unwrap(), MinMaxScaler::fit(&x).unwrap());
        let imputer = SimpleImputer::fit(&x, Strategy::Mean).unwrap();
        let mut metadata = Metadata::new();
        standard.save(&mut metadata, "a");
        range.save(&mut metadata, "b");
        imputer.save(&mut metadata, "c");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        crate::io::save(&path, &[("x".to_string(), x)], &metadata).unwrap();
        let (_, metadata) = crate::io::load(&path, &Device::cpu()).unwrap();
        assert_eq!(StandardScaler::load(&metadata, "a").unwrap(), standard);
        assert_eq!(MinMaxScaler::load(&metadata, "b").unwrap(), range);
        assert_eq!(SimpleImputer::load(&metadata, "c").unwrap(), imputer);
        let message = StandardScaler::load(&metadata, "b").unwrap_err().to_string();
        assert!(message.contains("nothing under the name b.mean"), "{message}");
    }

    #[test]
    fn metadata_of_something_else_is_refused() {
        let load = |mean: &str, scale: &str| {
            let pairs = [("s.mean", mean), ("s.scale", scale), ("s.data_min", mean), ("s.data_max", scale)];
            let metadata = Metadata::from(pairs.map(|(name, value)| (name.to_string(), value.to_string())));
            [StandardScaler::load(&metadata, "s").is_ok(), MinMaxScaler::load(&metadata, "s").is_ok()]
        };
        assert_eq!(load("1 2", "3 4"), [true, true]);
        for (mean, scale) in [("1", "3 4"), ("x", "3"), ("NaN", "3"), ("1", "inf"), ("1", "-1")] {
            assert_eq!(load(mean, scale), [false, false], "{mean:?} {scale:?}");
        }
        assert_eq!(load("-1", "0"), [false, true]);
    }
}
