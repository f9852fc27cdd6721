// The softmax of attention's logits and its slope, row by row; the products around them are the library's.
//
// A block for each row. The first pass takes maximum and sum together, the second writes: two reads and one write.
#include "flash.cuh"
#include "shared.cuh"

namespace attention {

// p = softmax(logits), both [rows, n]; logits may be p itself where T is float.
template <class T> __device__ void softmax(const float *logits, T *p, unsigned n) {
    logits += (length_t)blockIdx.x * n;
    p += (length_t)blockIdx.x * n;
    float largest = -INFINITY, sum = 0;
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x) {
        float l = logits[j];
        if (l > largest) {
            sum *= expf(largest - l);
            largest = l;
        }
        // An infinite logit or a NaN makes the sum a NaN, and with it the row.
        sum += expf(l - largest);
    }
    float of_all = block_max(largest);
    // Threads that saw nothing would say 0 * exp(-inf + inf) where all is -inf; there the row is a NaN anyway.
    float total = block_sum(sum == 0.f ? 0.f : sum * expf(largest - of_all)), inverse = 1.f / total;
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x) p[j] = narrow<T>(expf(logits[j] - of_all) * inverse);
}

// slope = scale * p * (dp - sum of p * dp), all [rows, n].
template <class T> __device__ void slope(const T *p, const float *dp, T *found, unsigned n, float scale) {
    length_t row = (length_t)blockIdx.x * n;
    float mean = 0;
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x) mean += wide(p[row + j]) * dp[row + j];
    mean = block_sum(mean);
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x)
        found[row + j] = narrow<T>(scale * wide(p[row + j]) * (dp[row + j] - mean));
}

} // namespace attention

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(attention_softmax_##suffix, const float *logits, T *p, unsigned n) {                                        \
        attention::softmax<T>(logits, p, n);                                                                           \
    }                                                                                                                  \
    KERNEL(attention_slope_##suffix, const T *p, const float *dp, T *found, unsigned n, float scale) {                 \
        attention::slope<T>(p, dp, found, n, scale);                                                                   \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
