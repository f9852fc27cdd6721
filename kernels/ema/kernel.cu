// Moving averages in place, and the sum of squares behind a norm.
//
// Bandwidth is the limit: 12 bytes an element for the average, 4 for the norm.
#include "shared.cuh"

namespace ema {

// a <- a + weight * (scale * x - a).
__device__ void lerp(float *a, const float *x, length_t n, float weight, float scale) {
    length_t i = (length_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] += weight * (scale * x[i] - a[i]);
}

// One sum of squares in 64 bits for each block, over elements that only n and the grid decide.
template <class T> __device__ void squares(const T *x, double *sums, length_t n) {
    double sum = 0;
    length_t all = (length_t)gridDim.x * blockDim.x;
    for (length_t i = (length_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += all) {
        double value = wide(x[i]);
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The sum of the blocks' sums; one block.
__device__ void total(const double *sums, double *sum, unsigned n) {
    double own = 0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) own += sums[i];
    own = block_sum(own);
    if (threadIdx.x == 0) *sum = own;
}

} // namespace ema

KERNEL(ema_lerp_f32, float *a, const float *x, unsigned long long n, float weight, float scale) {
    ema::lerp(a, x, n, weight, scale);
}
KERNEL(ema_total_f32, const double *sums, double *sum, unsigned n) { ema::total(sums, sum, n); }

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(ema_squares_##suffix, const T *x, double *sums, unsigned long long n) { ema::squares<T>(x, sums, n); }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
