//! Summaries of models.

use super::module::Module;
use crate::Result;
use crate::shape::Shape;

/// A table of a model's layers, in the style of Keras, without running the model.
///
/// It lists output shapes, parameters and floating-point operations for an input of this shape.
///
/// # Errors
/// A shape that a layer does not accept; the error names the layer.
pub fn summary(module: &dyn Module, input: impl AsRef<[usize]>) -> Result<String> {
    let input = Shape::new(input)?;
    let mut rows = Vec::new();
    module.summarize("", input, &mut rows)?;
    // Parameters shared by several layers count once here.
    let parameters: u64 = module.parameters().iter().map(|parameter| parameter.numel() as u64).sum();
    let flops: u64 = rows.iter().fold(0, |sum, row| row.flops.saturating_add(sum));

    let mut table = vec![["", "Layer", "Output shape", "Parameters", "FLOPs"].map(String::from)];
    table.extend(rows.into_iter().map(|row| {
        [row.path, row.layer, row.output.to_string(), grouped(row.parameters), grouped(row.flops)]
    }));
    let width = |column: usize| table.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(width);
    let mut lines: Vec<String> = table
        .iter()
        .map(|[path, layer, output, parameters, flops]| {
            format!("{path:a$}  {layer:b$}  {output:c$}  {parameters:>d$}  {flops:>e$}")
        })
        .collect();
    let total = a + b + c + d + e + 8;
    lines.insert(1, "=".repeat(total));
    lines.push("=".repeat(total));
    let mib = parameters as f64 * 4.0 / f64::from(1 << 20);
    lines.push(format!("Total parameters: {} ({mib:.2} MiB)", grouped(parameters)));
    lines.push(format!("Total FLOPs: {} for an input of {input}", grouped(flops)));
    Ok(lines.join("\n") + "\n")
}

/// With commas between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 693_962, 1_234_567].map(grouped).join(" "),
            "0 999 1,000 693,962 1,234,567"
        );
    }
}
