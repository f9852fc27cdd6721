//! One law, several instruction sets: chosen when the program runs.
//!
//! A kernel's body is written once over `L` lanes and a multiply-add `M`.
//! [`multiversion!`] compiles it for AVX-512, AVX2 and the portable baseline and picks the best that the processor has.
//! Kernels add in an order that does not depend on the choice.

/// How a product is added: fused where the processor does so, else rounded twice.
pub(crate) trait MulAdd: Copy + Send + Sync {
    /// a * b + c.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// One rounding.
#[derive(Clone, Copy)]
pub(crate) struct Fused;

/// Two roundings: the processor has no fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Separate;

impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl MulAdd for Separate {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// 16 lanes, fused.
    Avx512,
    /// 8 lanes, fused.
    Avx2,
    /// 4 lanes; fused on 64-bit Arm.
    Portable,
}

/// What this processor has.
pub fn instruction_set() -> InstructionSet {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("fma") {
            return InstructionSet::Avx512;
        }
        if has!("avx2") && has!("fma") {
            return InstructionSet::Avx2;
        }
    }
    InstructionSet::Portable
}

/// Lanes of a vector register under [`instruction_set`].
pub(crate) fn lanes() -> usize {
    match instruction_set() {
        InstructionSet::Avx512 => 16,
        InstructionSet::Avx2 => 8,
        InstructionSet::Portable => 4,
    }
}

/// f of all lanes with one another, halves with halves: the order is fixed and short.
#[inline(always)]
pub(crate) fn folded<const N: usize>(mut lanes: [f32; N], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = f(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(target_arch = "aarch64")]
pub(crate) type Baseline = Fused;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) type Baseline = Separate;

/// `fn name(args) = body;`: compiles `body::<M: MulAdd, const L: usize>`, which must be `#[inline(always)]`,
/// (`L` may go unused where the compiler finds the lanes by itself) once for each instruction set, and picks at run time.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident $(::<$extra:literal>)?;) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body::<$crate::simd::Fused, 16 $(, $extra)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body::<$crate::simd::Fused, 8 $(, $extra)?>($($arg),*)
                }
                match $crate::simd::instruction_set() {
                    // SAFETY: the processor was just asked whether it has these features.
                    $crate::simd::InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::InstructionSet::Portable => {}
                }
            }
            $body::<$crate::simd::Baseline, 4 $(, $extra)?>($($arg),*)
        }
    };
}
pub(crate) use multiversion;
