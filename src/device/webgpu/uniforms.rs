//! Uniform blocks: one Rust struct per kernel, which generates both the bytes of a dispatch and the WGSL declaration.

/// A uniform block.
pub trait Uniforms {
    const BYTES: usize;
    /// The declaration of this block as `struct Params`.
    fn wgsl() -> String;
    /// Appends the fields in WGSL's layout.
    fn append_to(&self, block: &mut Vec<u8>);
}

/// A type allowed for a field of a uniform block.
pub trait UniformField {
    const BYTES: usize;
    fn wgsl_type() -> String;
    fn append_to(&self, block: &mut Vec<u8>);
}

/// A size or an index.
impl UniformField for usize {
    const BYTES: usize = 4;

    fn wgsl_type() -> String {
        "u32".into()
    }

    fn append_to(&self, block: &mut Vec<u8>) {
        block.extend(as_u32(*self).to_le_bytes());
    }
}

impl UniformField for f32 {
    const BYTES: usize = 4;

    fn wgsl_type() -> String {
        "f32".into()
    }

    fn append_to(&self, block: &mut Vec<u8>) {
        block.extend(self.to_le_bytes());
    }
}

/// Array elements take 16 bytes in a uniform block, so an array is declared as vectors of four. Arrays come before all
/// other fields, which need no such alignment.
impl<const N: usize> UniformField for [u32; N] {
    const BYTES: usize = 4 * N;

    fn wgsl_type() -> String {
        const { assert!(N.is_multiple_of(4)) };
        format!("array<vec4<u32>, {}>", N / 4)
    }

    fn append_to(&self, block: &mut Vec<u8>) {
        block.extend(self.iter().flat_map(|word| word.to_le_bytes()));
    }
}

pub fn as_u32(size: usize) -> u32 {
    u32::try_from(size).expect("sizes on a device are below 2³²")
}

/// Defines a uniform block. WGSL reads its fields as `params.field`, in the same order and with the same names.
macro_rules! uniforms {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$note:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $($(#[$note])* pub $field: $type,)+
        }

        impl crate::device::webgpu::uniforms::Uniforms for $name {
            const BYTES: usize = 0 $(+ <$type as crate::device::webgpu::uniforms::UniformField>::BYTES)+;

            fn wgsl() -> String {
                use crate::device::webgpu::uniforms::UniformField;
                let fields = [$((stringify!($field), <$type as UniformField>::wgsl_type())),+];
                let fields = fields.map(|(name, wgsl_type)| format!("    {name}: {wgsl_type},\n"));
                format!("struct Params {{\n{}}}\n", fields.concat())
            }

            fn append_to(&self, block: &mut Vec<u8>) {
                use crate::device::webgpu::uniforms::UniformField;
                $(self.$field.append_to(block);)+
            }
        }
    };
}
pub(crate) use uniforms;

#[cfg(test)]
mod tests {
    use super::*;

    uniforms! {
        /// One field of each type.
        pub struct Example {
            tokens: [u32; 4],
            width: usize,
            eps: f32,
        }
    }

    #[test]
    fn the_wgsl_declaration_and_the_bytes_have_the_same_field_order() {
        let declared = "struct Params {\n    tokens: array<vec4<u32>, 1>,\n    width: u32,\n    eps: f32,\n}\n";
        assert_eq!(Example::wgsl(), declared);
        let mut block = Vec::new();
        let example = Example {
            tokens: [1, 2, 3, 4],
            width: 5,
            eps: 1.0,
        };
        example.append_to(&mut block);
        let words: Vec<u32> = (block.as_chunks().0.iter())
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        assert_eq!(block.len(), Example::BYTES);
        assert_eq!(words, [1, 2, 3, 4, 5, 1.0f32.to_bits()]);
    }
}
