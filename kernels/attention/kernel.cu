// The softmax of attention's logits and its slope, row by row; the products around them are the library's.
//
// A warp for each row. The first pass takes maximum and sum together, the second writes: two reads and one write.
#include "flash.cuh"
#include "shared.cuh"

namespace attention {

// Where the row of this warp begins; whether there is one.
__device__ __forceinline__ bool row_of_warp(length_t &begin, unsigned rows, unsigned n) {
    length_t row = (length_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    begin = row * n;
    return row < rows;
}

// p = softmax(logits), both [rows, n]; logits may be p itself where T is float.
template <class T> __device__ void softmax(const float *logits, T *p, unsigned rows, unsigned n) {
    length_t begin;
    if (!row_of_warp(begin, rows, n)) return;
    logits += begin;
    float largest = -INFINITY, sum = 0;
    for (unsigned j = threadIdx.x % WARP; j < n; j += WARP) {
        float l = logits[j];
        if (l > largest) {
            sum *= expf(largest - l);
            largest = l;
        }
        // An infinite logit or a NaN makes the sum a NaN, and with it the row.
        sum += expf(l - largest);
    }
    float of_all = warp_max(largest);
    // Threads that saw nothing would say 0 * exp(-inf + inf) where all is -inf; there the row is a NaN anyway.
    float total = warp_sum(sum == 0.f ? 0.f : sum * expf(largest - of_all)), inverse = 1.f / total;
    for (unsigned j = threadIdx.x % WARP; j < n; j += WARP) p[begin + j] = narrow<T>(expf(logits[j] - of_all) * inverse);
}

// slope = scale * p * (dp - sum of p * dp), all [rows, n].
template <class T> __device__ void slope(const T *p, const float *dp, T *found, unsigned rows, unsigned n, float scale) {
    length_t begin;
    if (!row_of_warp(begin, rows, n)) return;
    float mean = 0;
    for (unsigned j = threadIdx.x % WARP; j < n; j += WARP) mean += wide(p[begin + j]) * dp[begin + j];
    mean = warp_sum(mean);
    for (unsigned j = threadIdx.x % WARP; j < n; j += WARP)
        found[begin + j] = narrow<T>(scale * wide(p[begin + j]) * (dp[begin + j] - mean));
}

} // namespace attention

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(attention_softmax_##suffix, const float *logits, T *p, unsigned rows, unsigned n) {                         \
        attention::softmax<T>(logits, p, rows, n);                                                                     \
    }                                                                                                                  \
    KERNEL(attention_slope_##suffix, const T *p, const float *dp, T *found, unsigned rows, unsigned n, float scale) {  \
        attention::slope<T>(p, dp, found, rows, n, scale);                                                             \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
