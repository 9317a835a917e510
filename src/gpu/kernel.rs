//! A kernel: one entry point of one WGSL file, with the constants Rust may specialise it by.

use super::wgsl;
use crate::{Error, Result};

/// One entry point of a WGSL file in `shaders/`, held as a `static` beside the op that dispatches it.
///
/// Bindings follow one law: group 0; `reads` read-only storage buffers, then `writes` read-write ones, then the
/// uniform with the parameters, last.
#[derive(Debug)]
pub struct Kernel {
    /// The file in `shaders/`, for messages and profiles.
    pub file: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// The entry point.
    pub entry: &'static str,
    /// The constants prepended to the source, each with all the values that Rust may ask for. Every combination
    /// is a valid kernel: a test compiles them all.
    pub constants: &'static [(&'static str, &'static [u32])],
    /// The number of read-only storage buffers.
    pub reads: usize,
    /// The number of read-write storage buffers.
    pub writes: usize,
    /// The size of the parameter struct in bytes.
    pub params: usize,
    /// Its fields with their offsets in bytes: a test compares them with the WGSL struct's.
    pub fields: &'static [(&'static str, usize)],
    /// The functions that a constant's values stand for, by value; none for a constant that is a number.
    functions: &'static [(&'static str, &'static [&'static str])],
    /// Private, so that no kernel from outside can be said to end.
    loops: Loops,
}

/// Whether every loop of a kernel is known to end. A driver's compiler may assume that it does, so wgpu counts the
/// iterations of the others, which takes a tenth to a half of the time of a short loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loops {
    /// Nothing is known: the iterations are counted.
    Counted,
    /// They end: the rule for the kernels in `shaders/`, none of which iterates more than 65,535 times.
    End,
}

impl Kernel {
    /// A kernel of your own, for an [`Op`](crate::op::Op) of your own: the entry point `entry` of the WGSL `source`,
    /// without constants and parameters. `file` is the name that errors and profiles show.
    ///
    /// wgpu checks its indices, and counts the iterations of its loops.
    ///
    /// ```
    /// use gristmill::gpu::Kernel;
    /// gristmill::params! { struct Scale { factor: f32 } }
    /// static SCALE: Kernel = Kernel::new("scale.wgsl", "scale", "
    ///     struct Scale { factor: f32 }
    ///     @group(0) @binding(0) var<storage, read> x: array<f32>;
    ///     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    ///     @group(0) @binding(2) var<uniform> p: Scale;
    ///     @compute @workgroup_size(64)
    ///     fn scale(@builtin(global_invocation_id) id: vec3u) {
    ///         if (id.x < arrayLength(&y)) { y[id.x] = p.factor * x[id.x]; }
    ///     }").buffers(1, 1).params::<Scale>();
    /// assert_eq!(SCALE.name(), "scale.wgsl:scale");
    /// ```
    ///
    /// No kernel can be made of another one's parts, since only the crate's own run with uncounted loops:
    ///
    /// ```compile_fail,E0451
    /// use gristmill::gpu::Kernel;
    /// let kernel = Kernel { source: "", ..*gristmill::kernels()[0] };
    /// ```
    ///
    /// ```compile_fail,E0616
    /// use gristmill::gpu::Kernel;
    /// let loops = gristmill::kernels()[0].loops;
    /// ```
    pub const fn new(file: &'static str, entry: &'static str, source: &'static str) -> Kernel {
        let (constants, functions, fields, loops) = (&[], &[], &[], Loops::Counted);
        Kernel { file, source, entry, constants, functions, reads: 0, writes: 0, params: 0, fields, loops }
    }

    /// With so many read-only storage buffers, and then so many read-write ones.
    pub const fn buffers(self, reads: usize, writes: usize) -> Kernel {
        Kernel { reads, writes, ..self }
    }

    /// With these parameters, as the last binding.
    pub const fn params<P: Params>(self) -> Kernel {
        Kernel { params: size_of::<P>(), fields: P::FIELDS, ..self }
    }

    /// With constants that are put in front of the source, each with all the values that it may take.
    pub const fn constants(self, constants: &'static [(&'static str, &'static [u32])]) -> Kernel {
        Kernel { constants, ..self }
    }

    /// With constants whose values stand for functions of these names: where the value of `OP` is that of `exp`, `OP(x)`
    /// in the source becomes `op_exp(x)`.
    pub(crate) const fn functions(
        self,
        functions: &'static [(&'static str, &'static [&'static str])],
    ) -> Kernel {
        Kernel { functions, ..self }
    }

    /// One of the crate's own, whose loops end.
    pub(crate) const fn trusted(self) -> Kernel {
        Kernel { loops: Loops::End, ..self }
    }

    pub(super) fn loops_end(&self) -> bool {
        self.loops == Loops::End
    }

    /// `file:entry`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.file, self.entry)
    }

    /// A constant's value as text: the name of the function that it stands for, else the number.
    ///
    /// ```
    /// let unary = gristmill::kernels().into_iter().find(|kernel| kernel.name() == "unary.wgsl:vector").unwrap();
    /// assert_eq!((unary.value_name("OP", 0), unary.value_name("WG", 128)), ("exp".to_string(), "128".to_string()));
    /// ```
    pub fn value_name(&self, constant: &str, value: u32) -> String {
        let names = self.functions.iter().find(|(name, _)| *name == constant).map(|(_, names)| *names);
        let name = names.and_then(|names| names.get(value as usize));
        name.map_or_else(|| value.to_string(), |name| name.to_string())
    }

    /// The complete WGSL for these values of the constants, in the order of [`Kernel::constants`].
    ///
    /// # Errors
    /// A value outside its constant's domain, or a missing import.
    pub fn wgsl(&self, values: &[u32]) -> Result<String> {
        let known = self.constants.len() == values.len()
            && self.constants.iter().zip(values).all(|((_, domain), value)| domain.contains(value));
        if !known {
            let message =
                format!("constants {values:?} are outside the declared domain {:?}", self.constants);
            return Err(Error::Kernel { kernel: self.name(), message });
        }
        let named = self.constants.iter().zip(values);
        let named: Vec<_> = named.map(|((name, _), &value)| (*name, self.value_name(name, value))).collect();
        wgsl::assemble(&self.name(), self.file, self.source, &named)
    }

    /// Every combination of the constants' values.
    pub fn variants(&self) -> Vec<Vec<u32>> {
        self.constants.iter().fold(vec![Vec::new()], |variants, (_, domain)| {
            let extend = |v: &Vec<u32>| domain.iter().map(|&d| [&v[..], &[d]].concat()).collect::<Vec<_>>();
            variants.iter().flat_map(extend).collect()
        })
    }
}

/// A kernel's parameter struct, declared with [`params!`](crate::params).
pub trait Params: bytemuck::Pod {
    /// The fields with their offsets in bytes.
    const FIELDS: &'static [(&'static str, usize)];
}

/// Declares a parameter struct that the device can read: `repr(C)`, plain data without gaps, all of 4-byte words. WGSL aligns
/// `vec3u`, `vec4u` and arrays of them to 16 bytes; a field named `pad` fills such a gap and has no counterpart there.
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }

        const _: () = {
            const fn plain<T: $crate::bytemuck::Pod>() -> usize {
                size_of::<T>()
            }
            assert!(size_of::<$name>() == 0 $(+ plain::<$type>())*, "the struct has gaps: fill them with a field pad");
        };
        // SAFETY: all bits 0 are a value of each field, whose types are plain data, as was checked above.
        unsafe impl $crate::bytemuck::Zeroable for $name {}
        // SAFETY: it is repr(C) and Copy, has no gaps, and all its fields are plain data, as was checked above.
        unsafe impl $crate::bytemuck::Pod for $name {}

        impl $crate::gpu::Params for $name {
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}

/// Declares a [`Kernel`] whose text is the file of that name in `shaders/`. A constant is `"WG": &[64]`; one whose values
/// stand for functions is `"OP": &[0, 1] => &["exp", "log"]`.
macro_rules! kernel {
    ($file:literal, $entry:literal, reads: $reads:expr, writes: $writes:expr, params: $params:ty $(, $name:literal: $domain:expr $(=> $functions:expr)?)* $(,)?) => {
        $crate::gpu::Kernel::new(
            $file,
            $entry,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)),
        )
        .buffers($reads, $writes)
        .params::<$params>()
        .constants(&[$(($name, $domain)),*])
        .functions(&[$($(($name, $functions),)?)*])
        .trusted()
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    static SAMPLE: Kernel =
        Kernel::new("sample.wgsl", "f", "fn f() {}").constants(&[("A", &[1, 2]), ("B", &[3, 4, 5])]);

    #[test]
    fn variants_are_the_product_of_the_domains() {
        assert_eq!(SAMPLE.variants().len(), 6);
        assert!(SAMPLE.variants().iter().all(|v| SAMPLE.wgsl(v).is_ok()));
    }

    #[test]
    fn a_value_outside_the_domain_is_refused() {
        assert!(matches!(SAMPLE.wgsl(&[1, 6]), Err(Error::Kernel { .. })));
    }
}
