//! A device's memory: kept between steps, and how much of it was in use at most.
//!
//! CUDA gives what a program frees back to the driver at every synchronisation unless it is told to keep it; a training
//! step synchronises twice and allocates all its activations anew.

use candle_core::{Device, Result};

#[cfg(feature = "cuda")]
mod pool {
    use candle_core::cuda::cudarc::driver::result::{device, mem_pool};
    use candle_core::cuda::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
    use candle_core::{CudaDevice, Error, Result};

    /// The pool from which every tensor of `device` comes.
    fn of(device: &CudaDevice) -> Result<CUmemoryPool> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: the device's context lives as long as the device.
        unsafe { device::get_default_mem_pool(stream.context().cu_device()) }.map_err(Error::wrap)
    }

    pub(super) fn keep(device: &CudaDevice) -> Result<()> {
        let mut most = u64::MAX;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a number of 64 bits.
        unsafe { mem_pool::set_attribute(of(device)?, attribute, (&raw mut most).cast()) }
            .map_err(Error::wrap)
    }

    pub(super) fn peak(device: &CudaDevice) -> Result<u64> {
        let mut bytes = 0u64;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: as above.
        unsafe { mem_pool::get_attribute(of(device)?, attribute, (&raw mut bytes).cast()) }
            .map_err(Error::wrap)?;
        Ok(bytes)
    }
}

/// Has `device` keep what is freed, for what comes next; nothing to do for host memory.
///
/// # Errors
/// When the driver refuses.
pub fn keep_freed(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::keep(device),
        _ => Ok(()),
    }
}

/// The most bytes of tensors that lay on `device` at once, beside what the driver and its libraries take; `None` for host
/// memory.
///
/// # Errors
/// When the driver refuses.
pub fn peak(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::peak(device).map(Some),
        _ => Ok(None),
    }
}
