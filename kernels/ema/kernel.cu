// Moving averages in place, and the sum of squares behind a norm.
//
// Bandwidth is the limit: 12 bytes an element for the average, 4 for the norm.
#include "shared.cuh"

namespace ema {

// a <- a + weight * (scale * x - a); a thread for each pack.
template <unsigned V> __device__ void lerp(float *a, const float *x, length_t n, float weight, float scale) {
    length_t i = ((length_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n) return;
    float of_a[V], of_x[V];
    read<V>(a + i, of_a, n - i);
    read<V>(x + i, of_x, n - i);
    for (unsigned v = 0; v < V; v++) of_a[v] += weight * (scale * of_x[v] - of_a[v]);
    write<V>(a + i, of_a, n - i);
}

// One sum of squares in 64 bits for each block, over elements that only n and the grid decide.
template <class T, unsigned V> __device__ void squares(const T *x, double *sums, length_t n) {
    const unsigned AHEAD = 4; // packs on their way at once
    double sum = 0;
    length_t all = (length_t)gridDim.x * blockDim.x * V, i = ((length_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    auto add = [&](const float(&values)[V]) {
        for (unsigned v = 0; v < V; v++) sum += (double)values[v] * values[v];
    };
    for (; i + (AHEAD - 1) * all + V <= n; i += AHEAD * all) {
        Pack<T, V> packs[AHEAD];
#pragma unroll
        for (unsigned k = 0; k < AHEAD; k++) packs[k] = *(const Pack<T, V> *)(x + i + k * all);
#pragma unroll
        for (unsigned k = 0; k < AHEAD; k++) {
            float values[V];
            packs[k].to(values);
            add(values);
        }
    }
    for (; i < n; i += all) {
        float values[V];
        read<V>(x + i, values, n - i);
        add(values);
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
    ema::lerp<1>(a, x, n, weight, scale);
}
KERNEL(ema_lerp_wide_f32, float *a, const float *x, unsigned long long n, float weight, float scale) {
    ema::lerp<4>(a, x, n, weight, scale);
}
KERNEL(ema_total_f32, const double *sums, double *sum, unsigned n) { ema::total(sums, sum, n); }

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(ema_squares_##suffix, const T *x, double *sums, unsigned long long n) { ema::squares<T, V>(x, sums, n); }
FOR_EACH_PACK(KERNELS)
#undef KERNELS
