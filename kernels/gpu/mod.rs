//! Launching the kernels of `*/kernel.cu`: on a CUDA device, or emulated on the processor for the tests.
//!
//! What decides a launch (function, grid, threads, arguments) is computed here and beside each operation, once for both.
//! Everything runs on the one stream of candle's device, in order: nothing waits for the host, and memory that is freed
//! after a launch is taken back behind it.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "emulated")]
mod emulated;
pub(crate) mod product;
pub(crate) mod rows;
#[cfg(all(test, feature = "emulated"))]
mod tests;

#[cfg(all(test, feature = "emulated"))]
pub(crate) use emulated::{Order, in_order};

use candle_core::{DType, Device, Result, Tensor, bail};

/// One `kernel.cu`.
pub(crate) struct Source {
    /// Its folder.
    pub name: &'static str,
    /// What nvcc made of it.
    #[cfg(feature = "cuda")]
    pub ptx: &'static str,
}

/// `source!("adamw")`: the kernels of that folder.
macro_rules! source {
    ($name:literal) => {
        $crate::gpu::Source {
            name: $name,
            #[cfg(feature = "cuda")]
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
        }
    };
}
pub(crate) use source;

/// What a kernel is given, in the order of its parameters.
#[derive(Clone, Copy)]
pub(crate) enum Argument<'a> {
    /// `const T*`.
    Read(&'a Tensor),
    /// `T*`: the kernel writes it, and nothing else reads or writes it meanwhile.
    Write(&'a Tensor),
    /// `unsigned`.
    Count(usize),
    /// `unsigned long long`.
    Length(usize),
    /// `float`.
    Float(f64),
    /// `double`.
    Double(f64),
}

/// Blocks and the threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// In x and y.
    pub blocks: [usize; 2],
    /// Threads of a block: a multiple of a warp.
    pub threads: usize,
}

/// Threads that run in step.
pub(crate) const WARP: usize = 32;

/// Threads of a block where nothing speaks for another number.
const THREADS: usize = 256;

/// The most blocks in y, and the threads of a block for which kernels are compiled.
pub(crate) const MOST_IN_Y: usize = 65_535;
const MOST_THREADS: usize = 256;

impl Grid {
    /// A thread for each of `n` elements.
    pub fn of_elements(n: usize) -> Self {
        Self { blocks: [n.div_ceil(THREADS), 1], threads: THREADS }
    }

    /// A block for each of `rows` rows of `columns` elements.
    pub fn of_rows(rows: usize, columns: usize) -> Self {
        let threads = columns.clamp(1, THREADS).next_multiple_of(WARP);
        Self { blocks: [rows, 1], threads }
    }

    /// A warp for each of `rows` rows.
    pub fn of_warps(rows: usize) -> Self {
        Self { blocks: [rows.div_ceil(THREADS / WARP), 1], threads: THREADS }
    }

    fn check(&self, function: &str) -> Result<()> {
        let [x, y] = self.blocks;
        let fits = x <= i32::MAX as usize
            && y <= MOST_IN_Y
            && self.threads <= MOST_THREADS
            && self.threads.is_multiple_of(WARP);
        if !fits {
            bail!("{function}: {self:?} is more than a device takes: give fewer examples at once");
        }
        Ok(())
    }
}

/// Runs `function` of `source` for `dtype` over `grid`.
///
/// # Errors
/// When an argument does not fit, or the device refuses.
pub(crate) fn launch(
    source: &Source,
    function: &str,
    dtype: DType,
    grid: Grid,
    arguments: &[Argument],
) -> Result<()> {
    run(source, format!("{}_{function}_{}", source.name, suffix(dtype)?), grid, arguments)
}

/// The same for a kernel that moves `unit`s, whatever they hold.
///
/// # Errors
/// As [`launch`].
pub(crate) fn launch_units(
    source: &Source,
    function: &str,
    unit: Unit,
    grid: Grid,
    arguments: &[Argument],
) -> Result<()> {
    run(source, format!("{}_{function}_u{}", source.name, 8 * unit.bytes), grid, arguments)
}

fn run(source: &Source, function: String, grid: Grid, arguments: &[Argument]) -> Result<()> {
    grid.check(&function)?;
    if grid.blocks.contains(&0) {
        return Ok(());
    }
    let device = arguments.iter().find_map(|argument| match argument {
        Argument::Read(tensor) | Argument::Write(tensor) => Some(tensor.device().clone()),
        _ => None,
    });
    let words = |address: &dyn Fn(&Tensor, bool) -> Result<u64>| -> Result<Vec<u64>> {
        arguments.iter().map(|&argument| word(&function, argument, address)).collect()
    };
    match device {
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) => {
            let words = words(&|tensor, _| cuda::address(tensor))?;
            cuda::launch(&device, source, &function, grid, &words)
        }
        #[cfg(feature = "emulated")]
        Some(Device::Cpu) => {
            let words = words(&emulated::address)?;
            let kinds: String = arguments.iter().map(kind).collect();
            emulated::launch(&function, grid, &words, &kinds)
        }
        device => {
            let _ = (words, source.name);
            bail!(
                "{function}: expected tensors on a CUDA device in a build with `--features cuda`, got {:?}",
                device.map(|device| device.location())
            )
        }
    }
}

/// What a thread moves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// 2, 4 or 16.
    pub bytes: usize,
    /// Of one element.
    size: usize,
}

impl Unit {
    /// The largest unit in which the tensors begin and that divides each run of `elements`.
    pub fn of(tensors: &[&Tensor], elements: &[usize]) -> Self {
        let size = tensors[0].dtype().size_in_bytes();
        let begins = tensors.iter().map(|tensor| tensor.layout().start_offset());
        let divides = |bytes: &usize| {
            begins
                .clone()
                .chain(elements.iter().copied())
                .all(|n| (n * size).is_multiple_of(*bytes))
        };
        Self { bytes: [16, 4].into_iter().find(divides).unwrap_or(size), size }
    }

    /// Units in `elements`.
    pub fn count(self, elements: usize) -> usize {
        elements * self.size / self.bytes
    }
}

/// How a kernel's name ends for each type.
fn suffix(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        other => bail!("kernels on CUDA: expected f32 or bf16, got {other:?}"),
    })
}

/// An argument as eight bytes, of which a kernel reads as many as it wants.
fn word(
    function: &str,
    argument: Argument,
    address: &dyn Fn(&Tensor, bool) -> Result<u64>,
) -> Result<u64> {
    Ok(match argument {
        Argument::Read(tensor) => address(tensor, false)?,
        Argument::Write(tensor) => address(tensor, true)?,
        Argument::Count(n) => match u32::try_from(n) {
            Ok(n) => n.into(),
            Err(_) => bail!("{function}: {n} elements are too many for one launch"),
        },
        Argument::Length(n) => n as u64,
        Argument::Float(x) => u64::from((x as f32).to_bits()),
        Argument::Double(x) => x.to_bits(),
    })
}

/// A letter for each kind of parameter, so that the emulation can hold it against the kernel's own.
#[cfg(feature = "emulated")]
fn kind(argument: &Argument) -> char {
    match argument {
        Argument::Read(_) => 'r',
        Argument::Write(_) => 'w',
        Argument::Count(_) => 'u',
        Argument::Length(_) => 'l',
        Argument::Float(_) => 'f',
        Argument::Double(_) => 'd',
    }
}

/// Whether the kernels were compiled for devices whose tensor cores know bfloat16 and TF32.
pub(crate) fn has_tensor_cores() -> bool {
    #[cfg(feature = "cuda")]
    return env!("LETHE_CUDA_CAPABILITY").parse::<u32>().is_ok_and(|built| built >= 80);
    #[cfg(not(feature = "cuda"))]
    true
}

/// A tensor whose elements a kernel will write, every one.
///
/// # Errors
/// When the device has no room.
pub(crate) fn fresh(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    if device.is_cpu() {
        // Under emulation what nobody wrote shows.
        return Tensor::full(f32::NAN, shape, device)?.to_dtype(dtype);
    }
    // SAFETY: numbers of any bits are numbers, and the caller's kernel overwrites them.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// Refuses what is not contiguous; `name` says which operand it is.
///
/// # Errors
/// As said.
pub(crate) fn dense(name: &str, tensor: &Tensor) -> Result<()> {
    if !tensor.is_contiguous() {
        bail!("{name}: expected a contiguous tensor, got strides {:?}", tensor.stride());
    }
    Ok(())
}

/// Where `tensor` begins in its storage, in elements.
#[cfg(any(feature = "cuda", feature = "emulated"))]
fn offset(tensor: &Tensor) -> Result<usize> {
    match tensor.layout().contiguous_offsets() {
        Some((start, _)) => Ok(start),
        None => bail!("expected a contiguous tensor, got strides {:?}", tensor.stride()),
    }
}
