//! The law through cuDNN: all three passes in channels-last layout, sums in 32 bits.
//!
//! The weights are turned into cuDNN's order first ([out, kernel, kernel, in]), as for the unfolded products.
//! f32 is true 32-bit arithmetic, or TF32 where candle was told that products may be; bf16 runs on the tensor cores.
//! cuDNN's heuristics are asked once for each pass and size: the first algorithm that gives the same bits each time, within
//! [`MOST`] bytes of workspace and in the arithmetic that is wanted. `LETHE_CUDNN=1` has each choice said.
//! Windows that look further to one side than to the other see an image that was widened before.
//! What cuDNN does not have, and what are plain products (1x1), is left to the unfolded products.

use super::{Sizes, Window, device};
use crate::gpu::cuda::address;
use crate::gpu::fresh;
use crate::gpu::product::allows_short;
use candle_core::cuda::DeviceId;
use candle_core::cuda::cudarc::cudnn::CudnnError;
use candle_core::cuda::cudarc::cudnn::result::{self as cudnn, get_version};
use candle_core::cuda::cudarc::cudnn::sys;
use candle_core::cuda::cudarc::driver::{CudaSlice, DevicePtrMut};
use candle_core::{CudaDevice, DType, Device, Error, Result, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};

/// The largest workspace that is used.
const MOST: usize = 1 << 30;

/// Algorithms that are asked for: more than any pass has.
const ALGORITHMS: usize = 16;

type Found<T> = std::result::Result<T, CudnnError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    Input,
    Weight,
}

/// What was chosen for one pass.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// One of cuDNN's answers.
#[derive(Clone, Copy, Debug)]
struct Offer {
    algorithm: Algorithm,
    math: sys::cudnnMathType_t,
    /// It exists, and gives the same bits each time.
    is_sound: bool,
}

/// All of one pass that does not change from call to call.
struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    bytes: usize,
}

/// cuDNN on one device, for one thread: its handle may not be shared.
///
/// Nothing of it is ever let go: when a thread ends, the driver may have ended before.
struct State {
    handle: sys::cudnnHandle_t,
    /// Reused by every convolution: they follow one another in one stream.
    workspace: Option<CudaSlice<u8>>,
    /// `None` where cuDNN has nothing that is wanted.
    plans: HashMap<(Pass, DType, bool, Sizes), Option<Plan>>,
}

thread_local! {
    static STATES: RefCell<HashMap<DeviceId, State>> = RefCell::default();
}

impl State {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        let handle = cudnn::create_handle().map_err(Error::wrap)?;
        // SAFETY: handle and stream are alive, and stay so.
        unsafe { cudnn::set_stream(handle, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        Ok(Self { handle, workspace: None, plans: HashMap::new() })
    }
}

/// The four descriptors of one convolution.
#[derive(Clone, Copy)]
struct Descriptors {
    conv: sys::cudnnConvolutionDescriptor_t,
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
}

impl Descriptors {
    fn new(sizes: &Sizes, dtype: DType) -> Found<Self> {
        let Window { kernel, stride, before, .. } = sizes.window;
        let kind = kind(dtype);
        let images = |(height, width): (usize, usize), channels: usize| {
            let found = cudnn::create_tensor_descriptor()?;
            let dims = [sizes.batch, channels, height, width].map(|n| n as c_int);
            // SAFETY: the descriptor was made just now.
            unsafe { cudnn::set_tensor4d_descriptor(found, FORMAT, kind, dims)? };
            Ok(found)
        };
        let w = cudnn::create_filter_descriptor()?;
        let dims = [sizes.channels_out, sizes.channels_in, kernel, kernel].map(|n| n as c_int);
        // SAFETY: as above.
        unsafe { cudnn::set_filter4d_descriptor(w, kind, FORMAT, dims)? };
        let conv = cudnn::create_convolution_descriptor()?;
        let [pad, stride] = [before, stride].map(|n| n as c_int);
        let (mode, sums) = (
            sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
            sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        );
        // SAFETY: as above.
        unsafe {
            cudnn::set_convolution2d_descriptor(conv, pad, pad, stride, stride, 1, 1, mode, sums)?;
            cudnn::set_convolution_math_type(conv, math(dtype))?;
        }
        let (x, y) =
            (images(sizes.input, sizes.channels_in)?, images(sizes.output, sizes.channels_out)?);
        Ok(Self { conv, x, w, y })
    }

    /// What cuDNN has for `pass`, the fastest by its own account first.
    fn offers(&self, handle: sys::cudnnHandle_t, pass: Pass) -> Found<Vec<Offer>> {
        let Self { conv, x, w, y } = *self;
        let (most, mut n) = (ALGORITHMS as c_int, 0);
        // The three passes have three functions and three structures of the same fields.
        macro_rules! asked {
            ($function:ident, $kind:path, $a:expr, $b:expr, $c:expr, $d:expr) => {{
                // SAFETY: numbers and names of numbers, for each of which zero is one.
                let mut answers = [unsafe { std::mem::zeroed() }; ALGORITHMS];
                let place = answers.as_mut_ptr();
                // SAFETY: handle and descriptors are alive; there is room for so many answers.
                unsafe { cudnn::$function(handle, $a, $b, $c, $d, most, &raw mut n, place)? };
                let own = &answers[..(n as usize).min(ALGORITHMS)];
                own.iter()
                    .map(|answer| Offer {
                        algorithm: $kind(answer.algo),
                        math: answer.mathType,
                        is_sound: answer.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                            && answer.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                    })
                    .collect()
            }};
        }
        Ok(match pass {
            Pass::Forward => {
                asked!(get_convolution_forward_algorithm, Algorithm::Forward, x, w, conv, y)
            }
            Pass::Input => {
                asked!(get_convolution_backward_data_algorithm, Algorithm::Input, w, y, conv, x)
            }
            Pass::Weight => {
                asked!(get_convolution_backward_filter_algorithm, Algorithm::Weight, x, y, conv, w)
            }
        })
    }
}

const FORMAT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;

fn kind(dtype: DType) -> sys::cudnnDataType_t {
    match dtype {
        DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        _ => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

/// Whether products of 32 bits must be true ones.
fn is_true(dtype: DType) -> bool {
    dtype == DType::F32 && !allows_short()
}

/// The arithmetic that is asked for.
fn math(dtype: DType) -> sys::cudnnMathType_t {
    match dtype {
        DType::F32 if is_true(dtype) => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        DType::F32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        // Without this the heuristics may pass over the tensor cores.
        _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}

impl Plan {
    /// The first offer that will do.
    fn new(
        handle: sys::cudnnHandle_t,
        pass: Pass,
        dtype: DType,
        sizes: &Sizes,
    ) -> Found<Option<Self>> {
        let descriptors = Descriptors::new(sizes, dtype)?;
        for offer in descriptors.offers(handle, pass)? {
            let math = match offer.math {
                sys::cudnnMathType_t::CUDNN_DEFAULT_MATH if is_true(dtype) => math(dtype),
                other => other,
            };
            let is_wanted = !is_true(dtype) || math == sys::cudnnMathType_t::CUDNN_FMA_MATH;
            if !offer.is_sound || !is_wanted {
                continue;
            }
            let plan = Self { descriptors, algorithm: offer.algorithm, bytes: 0 };
            // SAFETY: the descriptor is alive. An algorithm is chosen together with its arithmetic.
            unsafe { cudnn::set_convolution_math_type(descriptors.conv, math)? };
            let Some(bytes) = supported(plan.workspace(handle))? else { continue };
            if bytes <= MOST {
                told(
                    pass,
                    dtype,
                    sizes,
                    &format!("{:?}, {math:?}, {bytes} bytes", offer.algorithm),
                );
                return Ok(Some(Self { bytes, ..plan }));
            }
        }
        told(pass, dtype, sizes, "unfolded products");
        Ok(None)
    }

    fn workspace(&self, handle: sys::cudnnHandle_t) -> Found<usize> {
        let Descriptors { conv, x, w, y } = self.descriptors;
        // SAFETY: handle and descriptors are alive.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(found) => {
                    cudnn::get_convolution_forward_workspace_size(handle, x, w, conv, y, found)
                }
                Algorithm::Input(found) => cudnn::get_convolution_backward_data_workspace_size(
                    handle, w, y, conv, x, found,
                ),
                Algorithm::Weight(found) => cudnn::get_convolution_backward_filter_workspace_size(
                    handle, x, y, conv, w, found,
                ),
            }
        }
    }

    /// to = the pass of `a` and `b`, + to where `keeps`.
    ///
    /// # Safety
    /// The addresses hold tensors of the plan's sizes and type, channels last, and a workspace of so many bytes.
    unsafe fn run(
        &self,
        handle: sys::cudnnHandle_t,
        [a, b, to, workspace]: [u64; 4],
        keeps: bool,
    ) -> Found<()> {
        let Descriptors { conv, x, w, y } = self.descriptors;
        let (one, kept) = (1f32, f32::from(u8::from(keeps)));
        let (one, kept) = ((&raw const one).cast(), (&raw const kept).cast());
        let read = |address: u64| address as *const c_void;
        let (to, room, bytes) = (to as *mut c_void, workspace as *mut c_void, self.bytes);
        let (a, b) = (read(a), read(b));
        // SAFETY: as the caller says; the scales are 32-bit floats in host memory for both types.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(found) => cudnn::convolution_forward(
                    handle, one, x, a, w, b, conv, found, room, bytes, kept, y, to,
                ),
                Algorithm::Input(found) => cudnn::convolution_backward_data(
                    handle, one, w, b, y, a, conv, found, room, bytes, kept, x, to,
                ),
                Algorithm::Weight(found) => cudnn::convolution_backward_filter(
                    handle, one, x, a, y, b, conv, found, room, bytes, kept, w, to,
                ),
            }
        }
    }
}

/// Says which algorithm was chosen, where that is asked for: the first thing to look at on a new device.
#[expect(clippy::print_stderr, reason = "asked for by whoever measures")]
fn told(pass: Pass, dtype: DType, sizes: &Sizes, what: &str) {
    if std::env::var_os("LETHE_CUDNN").is_some() {
        eprintln!("cuDNN {}, {pass:?} {dtype:?} {sizes:?}: {what}", get_version());
    }
}

/// One pass: `a` and `b` are its operands in cuDNN's order, `to` its result, which is added to where `keeps`.
struct Call<'a> {
    pass: Pass,
    sizes: &'a Sizes,
    a: &'a Tensor,
    b: &'a Tensor,
    to: &'a Tensor,
    keeps: bool,
}

impl Call<'_> {
    /// Whether cuDNN did it.
    fn run(&self) -> Result<bool> {
        let Device::Cuda(device) = self.a.device() else { return Ok(false) };
        STATES.with_borrow_mut(|states| {
            let state = match states.entry(device.id()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(State::new(device)?),
            };
            self.on(state, device)
        })
    }

    fn on(&self, state: &mut State, device: &CudaDevice) -> Result<bool> {
        let dtype = self.a.dtype();
        let plan = match state.plans.entry((self.pass, dtype, allows_short(), *self.sizes)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let plan = Plan::new(state.handle, self.pass, dtype, self.sizes);
                entry.insert(supported(plan).map_err(Error::wrap)?.flatten())
            }
        };
        let Some(found) = plan else { return Ok(false) };
        if found.bytes > state.workspace.as_ref().map_or(0, CudaSlice::len) {
            state.workspace = None;
            // SAFETY: nobody reads what a workspace holds before cuDNN has written it.
            state.workspace = Some(unsafe { device.alloc::<u8>(found.bytes)? });
        }
        let stream = device.cuda_stream();
        let room = state.workspace.as_mut().map_or(0, |room| room.device_ptr_mut(&stream).0);
        let places = [address(self.a)?, address(self.b)?, address(self.to)?, room];
        // SAFETY: the plan is of these sizes and this type; `address` refuses what is not contiguous.
        let done = unsafe { found.run(state.handle, places, self.keeps) };
        if supported(done).map_err(Error::wrap)?.is_none() {
            *plan = None;
            return Ok(false);
        }
        Ok(true)
    }
}

/// What cuDNN gave; `None` where it says that it has no such convolution.
fn supported<R>(found: Found<R>) -> Found<Option<R>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if format!("{error:?}").contains("NOT_SUPPORTED") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The convolution that cuDNN is asked for, where it is asked at all.
struct Asked {
    sizes: Sizes,
    /// Pixels that the image is widened by: before and after.
    widened: Option<(usize, usize)>,
}

impl Asked {
    fn of(x: &Tensor, sizes: &Sizes) -> Option<Self> {
        let Window { kernel, before, after, .. } = sizes.window;
        if !x.device().is_cuda() || kernel == 1 {
            return None;
        }
        if before == after {
            return Some(Self { sizes: *sizes, widened: None });
        }
        let (height, width) = sizes.input;
        let input = (height + before + after, width + before + after);
        let window = Window { before: 0, after: 0, ..sizes.window };
        Some(Self { sizes: Sizes { input, window, ..*sizes }, widened: Some((before, after)) })
    }

    /// x as the convolution sees it.
    fn seen(&self, x: &Tensor) -> Result<Tensor> {
        let Some((before, after)) = self.widened else { return Ok(x.clone()) };
        x.pad_with_zeros(1, before, after)?.pad_with_zeros(2, before, after)?.contiguous()
    }

    /// Of what was found for x as it is seen, that of x itself.
    fn own(&self, dx: Tensor, sizes: &Sizes) -> Result<Tensor> {
        let Some((before, _)) = self.widened else { return Ok(dx) };
        let (height, width) = sizes.input;
        dx.narrow(1, before, height)?.narrow(2, before, width)?.contiguous()
    }
}

/// y, where cuDNN does it.
pub(super) fn forward(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    sizes: &Sizes,
) -> Result<Option<Tensor>> {
    let Some(asked) = Asked::of(x, sizes) else { return Ok(None) };
    let (w, y) = (device::channels_last(w, sizes)?, device::biased(x, bias, sizes)?);
    let (sizes, keeps) = (&asked.sizes, bias.is_some());
    let call = Call { pass: Pass::Forward, sizes, a: &asked.seen(x)?, b: &w, to: &y, keeps };
    Ok(call.run()?.then_some(y))
}

/// dx, where cuDNN does it.
pub(super) fn input_gradient(dy: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    let Some(asked) = Asked::of(dy, sizes) else { return Ok(None) };
    let w = device::channels_last(w, sizes)?;
    let dx = fresh(&asked.sizes.x_shape(), dy.dtype(), dy.device())?;
    let (of, pass) = (&asked.sizes, Pass::Input);
    let call = Call { pass, sizes: of, a: dy, b: &w, to: &dx, keeps: false };
    call.run()?.then(|| asked.own(dx, sizes)).transpose()
}

/// dw, where cuDNN does it.
pub(super) fn weight_gradient(x: &Tensor, dy: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    let Some(asked) = Asked::of(x, sizes) else { return Ok(None) };
    let turned = [sizes.channels_out, sizes.taps(), sizes.channels_in];
    let to = fresh(&turned, x.dtype(), x.device())?;
    let (of, pass) = (&asked.sizes, Pass::Weight);
    let call = Call { pass, sizes: of, a: &asked.seen(x)?, b: dy, to: &to, keeps: false };
    match call.run()? {
        true => Ok(Some(device::weights_first(&to, sizes, x.dtype())?)),
        false => Ok(None),
    }
}
