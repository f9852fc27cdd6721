//! The law through cuDNN: all three passes in channels-last layout, sums in 32 bits.
//!
//! The weights are turned into cuDNN's order first ([out, kernel, kernel, in]), as for the unfolded products.
//! f32 is true 32-bit arithmetic, or TF32 where candle was told that products may be; bf16 runs on the tensor cores.
//! cuDNN's heuristics choose an algorithm once for each pass and size; those that add atomically, in an order of chance,
//! are exchanged for their deterministic neighbours.
//! What cuDNN cannot say (unequal padding) or does not have, what are plain products (1x1), and what would want more than
//! [`MOST`] bytes of workspace is left to the unfolded products.

use super::{Sizes, device};
use crate::gpu::cuda::address;
use crate::gpu::fresh;
use crate::gpu::product::allows_short;
use candle_core::cuda::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm, cudnnConvolutionFwdAlgo_t as Algorithm,
    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, cudnnMathType_t as Math,
    cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
};
use candle_core::cuda::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType,
    CudnnError, FilterDescriptor, TensorDescriptor,
};
use candle_core::cuda::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop,
};
use candle_core::{CudaDevice, DType, Device, Error, Result, Tensor};
use half::bf16;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// The largest workspace that is used.
const MOST: usize = 1 << 30;

/// What was chosen for one pass: an algorithm, and its bytes of workspace.
#[derive(Clone, Copy)]
enum Plan {
    Forward(Algorithm, usize),
    Input(DataAlgorithm, usize),
    Weight(FilterAlgorithm, usize),
    /// More than [`MOST`] bytes, or nothing that cuDNN has.
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    Input,
    Weight,
}

/// cuDNN on one device, for one thread: its handle may not be shared.
struct State {
    cudnn: Arc<Cudnn>,
    /// Reused by every convolution: they follow one another in one stream.
    workspace: Option<CudaSlice<u8>>,
    plans: HashMap<(Pass, DType, bool, Sizes), Plan>,
}

thread_local! {
    static STATES: RefCell<HashMap<usize, State>> = RefCell::default();
}

/// A tensor's memory as cudarc's wrappers take it.
struct At<'a, T> {
    address: u64,
    len: usize,
    stream: &'a Arc<CudaStream>,
    kind: PhantomData<T>,
}

impl<T> DeviceSlice<T> for At<'_, T> {
    fn len(&self) -> usize {
        self.len
    }

    fn stream(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

impl<T> DevicePtr<T> for At<'_, T> {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

impl<T> DevicePtrMut<T> for At<'_, T> {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

/// A type that cuDNN multiplies.
trait Number: CudnnDataType {
    const ZERO: Self;
    const ONE: Self;
}

impl Number for f32 {
    const ZERO: Self = 0.;
    const ONE: Self = 1.;
}

impl Number for bf16 {
    const ZERO: Self = Self::ZERO;
    const ONE: Self = Self::ONE;
}

/// The four descriptors of one convolution.
struct Descriptors<T: Number> {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

impl<T: Number> Descriptors<T> {
    fn new(cudnn: &Arc<Cudnn>, sizes: &Sizes) -> std::result::Result<Self, CudnnError> {
        let window = sizes.window;
        let [pad, stride, kernel] =
            [window.before, window.stride, window.kernel].map(|n| [n as i32; 2]);
        let mut conv = cudnn.create_conv2d::<f32>(pad, stride, [1, 1], CUDNN_CROSS_CORRELATION)?;
        conv.set_math_type(match T::DATA_TYPE == f32::DATA_TYPE && !allows_short() {
            true => Math::CUDNN_FMA_MATH,
            false => Math::CUDNN_DEFAULT_MATH,
        })?;
        let images = |(height, width): (usize, usize), channels: usize| {
            let dims = [sizes.batch, channels, height, width].map(|n| n as i32);
            cudnn.create_4d_tensor::<T>(CUDNN_TENSOR_NHWC, dims)
        };
        let filter = [sizes.channels_out as i32, sizes.channels_in as i32, kernel[0], kernel[1]];
        Ok(Self {
            conv,
            x: images(sizes.input, sizes.channels_in)?,
            w: cudnn.create_4d_filter::<T>(CUDNN_TENSOR_NHWC, filter)?,
            y: images(sizes.output, sizes.channels_out)?,
        })
    }

    fn forward(&self) -> ConvForward<'_, T, f32, T> {
        ConvForward { conv: &self.conv, x: &self.x, w: &self.w, y: &self.y }
    }

    fn input(&self) -> ConvBackwardData<'_, T, f32, T> {
        ConvBackwardData { conv: &self.conv, dx: &self.x, w: &self.w, dy: &self.y }
    }

    fn weight(&self) -> ConvBackwardFilter<'_, T, f32, T> {
        ConvBackwardFilter { conv: &self.conv, x: &self.x, dw: &self.w, dy: &self.y }
    }

    fn plan(&self, pass: Pass) -> std::result::Result<Plan, CudnnError> {
        use DataAlgorithm::{CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1};
        use FilterAlgorithm::{
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
        };
        let plan = match pass {
            Pass::Forward => {
                let algorithm = self.forward().pick_algorithm()?;
                Plan::Forward(algorithm, self.forward().get_workspace_size(algorithm)?)
            }
            Pass::Input => {
                let algorithm = match self.input().pick_algorithm()? {
                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 => CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                    other => other,
                };
                Plan::Input(algorithm, self.input().get_workspace_size(algorithm)?)
            }
            Pass::Weight => {
                let algorithm = match self.weight().pick_algorithm()? {
                    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 | CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 => {
                        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
                    }
                    other => other,
                };
                Plan::Weight(algorithm, self.weight().get_workspace_size(algorithm)?)
            }
        };
        Ok(match plan {
            Plan::Forward(_, bytes) | Plan::Input(_, bytes) | Plan::Weight(_, bytes)
                if bytes > MOST =>
            {
                Plan::None
            }
            plan => plan,
        })
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
        match self.a.dtype() {
            DType::F32 => self.run_as::<f32>(),
            _ => self.run_as::<bf16>(),
        }
    }

    fn run_as<T: Number>(&self) -> Result<bool> {
        let Device::Cuda(device) = self.a.device() else { return Ok(false) };
        STATES.with_borrow_mut(|states| {
            let ordinal = device.cuda_stream().context().ordinal();
            let state = match states.entry(ordinal) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(State {
                    cudnn: Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?,
                    workspace: None,
                    plans: HashMap::new(),
                }),
            };
            self.on::<T>(state, device)
        })
    }

    fn on<T: Number>(&self, state: &mut State, device: &CudaDevice) -> Result<bool> {
        let stream = device.cuda_stream();
        let descriptors = Descriptors::<T>::new(&state.cudnn, self.sizes).map_err(Error::wrap)?;
        let key = (self.pass, self.a.dtype(), allows_short(), *self.sizes);
        let plan = match state.plans.get(&key) {
            Some(plan) => *plan,
            None => {
                let plan = supported(descriptors.plan(self.pass))?.unwrap_or(Plan::None);
                state.plans.insert(key, plan);
                plan
            }
        };
        let bytes = match plan {
            Plan::Forward(_, bytes) | Plan::Input(_, bytes) | Plan::Weight(_, bytes) => bytes,
            Plan::None => return Ok(false),
        };
        if bytes > state.workspace.as_ref().map_or(0, CudaSlice::len) {
            state.workspace = None;
            // SAFETY: nobody reads what a workspace holds before cuDNN has written it.
            state.workspace = Some(unsafe { device.alloc::<u8>(bytes)? });
        }
        let at = |tensor: &Tensor| -> Result<At<'_, T>> {
            let len = tensor.elem_count();
            Ok(At { address: address(tensor)?, len, stream: &stream, kind: PhantomData })
        };
        let (a, b, mut to) = (at(self.a)?, at(self.b)?, at(self.to)?);
        let scales = (T::ONE, if self.keeps { T::ONE } else { T::ZERO });
        let workspace = state.workspace.as_mut();
        // SAFETY: the descriptors say what the tensors are: contiguous, channels last, of these sizes.
        let done = unsafe {
            match plan {
                Plan::Forward(algorithm, _) => {
                    descriptors.forward().launch(algorithm, workspace, scales, &a, &b, &mut to)
                }
                Plan::Input(algorithm, _) => {
                    descriptors.input().launch(algorithm, workspace, scales, &mut to, &b, &a)
                }
                Plan::Weight(algorithm, _) => {
                    descriptors.weight().launch(algorithm, workspace, scales, &a, &mut to, &b)
                }
                Plan::None => Ok(()),
            }
        };
        if supported(done)?.is_none() {
            state.plans.insert(key, Plan::None);
            return Ok(false);
        }
        Ok(true)
    }
}

/// What cuDNN gave; `None` where it says that it has no such convolution.
fn supported<R>(found: std::result::Result<R, CudnnError>) -> Result<Option<R>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if format!("{error:?}").contains("NOT_SUPPORTED") => Ok(None),
        Err(error) => Err(Error::wrap(error)),
    }
}

/// Whether cuDNN is asked at all.
fn applies(x: &Tensor, sizes: &Sizes) -> bool {
    let window = sizes.window;
    x.device().is_cuda() && window.kernel > 1 && window.before == window.after
}

/// y, where cuDNN does it.
pub(super) fn forward(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    sizes: &Sizes,
) -> Result<Option<Tensor>> {
    if !applies(x, sizes) {
        return Ok(None);
    }
    let (w, y) = (device::channels_last(w, sizes)?, device::biased(x, bias, sizes)?);
    let keeps = bias.is_some();
    let call = Call { pass: Pass::Forward, sizes, a: x, b: &w, to: &y, keeps };
    Ok(call.run()?.then_some(y))
}

/// dx, where cuDNN does it.
pub(super) fn input_gradient(dy: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    if !applies(dy, sizes) {
        return Ok(None);
    }
    let w = device::channels_last(w, sizes)?;
    let dx = fresh(&sizes.x_shape(), dy.dtype(), dy.device())?;
    let call = Call { pass: Pass::Input, sizes, a: dy, b: &w, to: &dx, keeps: false };
    Ok(call.run()?.then_some(dx))
}

/// dw, where cuDNN does it.
pub(super) fn weight_gradient(x: &Tensor, dy: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    if !applies(x, sizes) {
        return Ok(None);
    }
    let turned = [sizes.channels_out, sizes.taps(), sizes.channels_in];
    let to = fresh(&turned, x.dtype(), x.device())?;
    let call = Call { pass: Pass::Weight, sizes, a: x, b: dy, to: &to, keeps: false };
    match call.run()? {
        true => Ok(Some(device::weights_first(&to, sizes, x.dtype())?)),
        false => Ok(None),
    }
}
