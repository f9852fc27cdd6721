//! One loop, several instruction sets: chosen when the program runs.

/// `fn name(args) -> out = body;`: compiles `body`, which must be `#[inline(always)]`, for AVX-512, AVX2 and the baseline,
/// and picks the best that the processor has.
///
/// Products are not fused into sums: all three give the same numbers.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty = $body:ident;) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) -> $out {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) -> $out {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) -> $out {
                    $body($($arg),*)
                }
                match lethe_kernels::instruction_set() {
                    // SAFETY: the processor was just asked whether it has these features.
                    lethe_kernels::InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    lethe_kernels::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    lethe_kernels::InstructionSet::Portable => {}
                }
            }
            $body($($arg),*)
        }
    };
}
pub(crate) use vectorized;
