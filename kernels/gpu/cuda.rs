//! The launches on a real device: kernels through candle's stream, products through cuBLAS.

use super::product::{Matrix, Product};
use super::{Grid, Source, offset};
use candle_core::cuda::CudaStorageSlice;
use candle_core::cuda::DeviceId;
use candle_core::cuda::cudarc::cublas::{result::gemm_strided_batched_ex, sys as blas};
use candle_core::cuda::cudarc::driver::{
    CudaFunction, CudaSlice, DevicePtr, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaDevice, DType, Device, Error, Result, Storage, Tensor, bail};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

/// Where `tensor` begins in the device's memory.
pub(crate) fn address(tensor: &Tensor) -> Result<u64> {
    let start = offset(tensor)? * tensor.dtype().size_in_bytes();
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("expected a tensor on a CUDA device, got one on {:?}", tensor.device().location());
    };
    let stream = storage.device.cuda_stream();
    fn begin<T>(
        slice: &CudaSlice<T>,
        stream: &candle_core::cuda::cudarc::driver::CudaStream,
    ) -> u64 {
        slice.device_ptr(stream).0
    }
    let begin = match &storage.slice {
        CudaStorageSlice::F32(slice) => begin(slice, &stream),
        CudaStorageSlice::BF16(slice) => begin(slice, &stream),
        CudaStorageSlice::F64(slice) => begin(slice, &stream),
        CudaStorageSlice::U32(slice) => begin(slice, &stream),
        _ => bail!("kernels on CUDA: expected f32, bf16, f64 or u32, got {:?}", tensor.dtype()),
    };
    Ok(begin + start as u64)
}

thread_local! {
    /// Looking a kernel up by its name takes the driver as long as launching it.
    static LOADED: RefCell<HashMap<(DeviceId, String), CudaFunction>> = RefCell::default();
}

fn loaded(device: &CudaDevice, source: &Source, function: &str) -> Result<CudaFunction> {
    LOADED.with_borrow_mut(|loaded| {
        let key = (device.id(), function.to_string());
        if let Some(found) = loaded.get(&key) {
            return Ok(found.clone());
        }
        let module = format!("lethe {}", source.name);
        let found = device.get_or_load_custom_func(function, &module, source.ptx)?;
        let found = found.into_cuda_function();
        loaded.insert(key, found.clone());
        Ok(found)
    })
}

pub(super) fn launch(
    device: &CudaDevice,
    source: &Source,
    function: &str,
    grid: Grid,
    words: &[u64],
) -> Result<()> {
    let function = loaded(device, source, function)?;
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    for word in words {
        launch.arg(word);
    }
    let [x, y] = grid.blocks.map(|n| n as u32);
    let config = LaunchConfig {
        grid_dim: (x, y, 1),
        block_dim: (grid.threads as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the arguments are the kernel's, as the emulated tests hold against its own parameters; each tensor is
    // alive until the launch is in the stream, and freed memory is taken back behind it in the same stream.
    unsafe { launch.launch(config) }.map_err(Error::wrap)?;
    Ok(())
}

fn kind(dtype: DType) -> Result<blas::cudaDataType> {
    Ok(match dtype {
        DType::F32 => blas::cudaDataType_t::CUDA_R_32F,
        DType::BF16 => blas::cudaDataType_t::CUDA_R_16BF,
        other => bail!("product: expected f32 or bf16, got {other:?}"),
    })
}

/// An operand as cuBLAS sees it: column by column, so a row-major matrix is its own transpose.
struct Operand {
    address: *const c_void,
    kind: blas::cudaDataType,
    turn: blas::cublasOperation_t,
    leading: i32,
    step: i64,
}

fn operand(matrix: &Matrix) -> Result<Operand> {
    let size = matrix.tensor.dtype().size_in_bytes();
    Ok(Operand {
        address: (address(matrix.tensor)? + (matrix.start * size) as u64) as *const c_void,
        kind: kind(matrix.tensor.dtype())?,
        turn: match matrix.is_transposed {
            false => blas::cublasOperation_t::CUBLAS_OP_N,
            true => blas::cublasOperation_t::CUBLAS_OP_T,
        },
        leading: i32::try_from(matrix.row).map_err(Error::wrap)?,
        step: matrix.step as i64,
    })
}

/// to = scale · a · b + keep · to, as tᵀ = bᵀ · aᵀ in columns; sums in 32 bits whatever the operands.
pub(super) fn multiply(product: &Product) -> Result<()> {
    let Device::Cuda(device) = product.to.tensor.device() else {
        bail!("product: expected tensors on a CUDA device");
    };
    let (to, a, b) = (operand(&product.to)?, operand(&product.a)?, operand(&product.b)?);
    let [m, n, depth] = product.sizes.map(|n| n as i32);
    let (scale, keep) = (product.scale as f32, product.keep as f32);
    let is_short = a.kind == blas::cudaDataType_t::CUDA_R_32F && product.is_short;
    let compute = match is_short {
        true => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let blas_handle = device.cublas_handle();
    // SAFETY: `Product::check` has held the furthest element of each matrix against its tensor.
    unsafe {
        gemm_strided_batched_ex(
            *blas_handle.handle(),
            b.turn,
            a.turn,
            n,
            m,
            depth,
            (&raw const scale).cast(),
            b.address,
            b.kind,
            b.leading,
            b.step,
            a.address,
            a.kind,
            a.leading,
            a.step,
            (&raw const keep).cast(),
            to.address.cast_mut(),
            to.kind,
            to.leading,
            to.step,
            product.count as i32,
            compute,
            blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .map_err(Error::wrap)
}
