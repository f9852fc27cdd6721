//! A CUDA device: opened as our kernels want it, its memory kept between steps, and how much of it was in use at most.

use candle_core::{Device, Result};

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::cuda::cudarc::cublas::sys as blas;
    use candle_core::cuda::cudarc::driver::result::{device, mem_pool};
    use candle_core::cuda::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
    use candle_core::{CudaDevice, Error, Result, bail};

    pub(super) fn open(number: usize) -> Result<CudaDevice> {
        // candle's own way in gives each thread of the host a stream of its own, and nothing orders them.
        let device = CudaDevice::new_with_stream(number)?;
        // SAFETY: there is one stream, so that its order is all the order that is needed.
        unsafe { device.disable_event_tracking() };
        let exact = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle is alive. Sums of several parts of a product in bfloat16 would not be of 32 bits.
        let status = unsafe { blas::cublasSetMathMode(*device.cublas_handle().handle(), exact) };
        if status != blas::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
            bail!("cuBLAS refused to sum in 32 bits: {status:?}");
        }
        keep(&device)?;
        Ok(device)
    }

    /// The pool from which every tensor of `device` comes.
    fn of(device: &CudaDevice) -> Result<CUmemoryPool> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: the device's context lives as long as the device.
        unsafe { device::get_default_mem_pool(stream.context().cu_device()) }.map_err(Error::wrap)
    }

    fn set(device: &CudaDevice, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
        // SAFETY: the attributes that are set here are numbers of 64 bits.
        unsafe { mem_pool::set_attribute(of(device)?, attribute, (&raw mut value).cast()) }
            .map_err(Error::wrap)
    }

    /// CUDA gives what a program frees back to the driver at every synchronisation unless it is told to keep it; a
    /// training step synchronises twice and allocates all its activations anew.
    fn keep(device: &CudaDevice) -> Result<()> {
        set(device, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)
    }

    pub(super) fn peak(device: &CudaDevice) -> Result<u64> {
        let mut bytes = 0u64;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: as above.
        unsafe { mem_pool::get_attribute(of(device)?, attribute, (&raw mut bytes).cast()) }
            .map_err(Error::wrap)?;
        Ok(bytes)
    }

    pub(super) fn forget_peak(device: &CudaDevice) -> Result<()> {
        // Zero is the one value that the driver takes here: the mark begins anew at what is in use.
        set(device, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }
}

/// Opens the CUDA device `number`: all its work in one stream, in order; what is freed is kept for what comes next.
///
/// # Errors
/// When this build or this machine has no such device, or the driver refuses.
pub fn open(number: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return Ok(Device::Cuda(cuda::open(number)?));
    // candle says why there is none.
    #[cfg(not(feature = "cuda"))]
    Device::new_cuda(number)
}

/// The most bytes of tensors that lay on `device` at once, beside what the driver and its libraries take; `None` for host
/// memory.
///
/// # Errors
/// When the driver refuses.
pub fn peak(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::peak(device).map(Some),
        _ => Ok(None),
    }
}

/// From now on [`peak`] speaks of what comes after; nothing to do for host memory.
///
/// # Errors
/// When the driver refuses.
pub fn forget_peak(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forget_peak(device),
        _ => Ok(()),
    }
}
