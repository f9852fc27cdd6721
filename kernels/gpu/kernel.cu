// Sums down rows of channels: y[o, c] = sum over k of x[o, k, c], channels last.
//
// Two stages, so that many blocks share the rows of one channel and no float is added atomically: the order of the sums
// is a function of the sizes. Neighbouring threads read neighbouring channels. Limit: each x is read once.
#include "rows.cuh"

namespace rows {

// x [outer, rows, channels] -> partial [outer, runs, channels]; grid (runs, outer).
template <class T, unsigned V>
__device__ void sum_runs(const T *x, float *partial, unsigned rows, unsigned channels, unsigned width, unsigned lanes,
                         unsigned each) {
    Place p = place(width, lanes, each, rows);
    x += (length_t)blockIdx.y * rows * channels;
    partial += ((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels;
    for (unsigned begin = 0; begin * V < channels; begin += width) {
        unsigned c = (begin + p.column) * V;
        float sum[V] = {}, none[V] = {};
        if (p.is_used && c < channels)
            each_row<V>(p, x, (const T *)0, channels, c, lanes, [&](length_t, length_t, float(&own)[V], float(&)[V]) {
                for (unsigned v = 0; v < V; v++) sum[v] += own[v];
            });
        lane_sums(sum, none, width, lanes, [&](unsigned i, float all, float) {
            if (begin * V + i < channels) partial[begin * V + i] = all;
        });
    }
}

// partial [outer, runs, channels] -> y [outer, channels]; a block for 32 channels, eight threads for each; grid (.., outer).
template <class T>
__device__ void combine_runs(const float *partial, T *y, unsigned runs, unsigned channels) {
    SHARED(double, sums, 8 * WARP);
    unsigned lane = threadIdx.x % WARP, part = threadIdx.x / WARP, c = blockIdx.x * WARP + lane;
    double sum = 0;
    if (c < channels) {
        const float *own = partial + (length_t)blockIdx.y * runs * channels + c;
#pragma unroll 4
        for (unsigned k = part; k < runs; k += 8) sum += own[(length_t)k * channels];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (part > 0 || c >= channels) return;
    for (unsigned k = 1; k < 8; k++) sum += sums[k * WARP + lane];
    y[(length_t)blockIdx.y * channels + c] = narrow<T>((float)sum);
}

} // namespace rows

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(gpu_sum_runs_##suffix, const T *x, float *partial, unsigned rows, unsigned channels, unsigned width,        \
           unsigned lanes, unsigned each) {                                                                            \
        rows::sum_runs<T, V>(x, partial, rows, channels, width, lanes, each);                                          \
    }
FOR_EACH_PACK(KERNELS)
#undef KERNELS

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(gpu_combine_runs_##suffix, const float *partial, T *y, unsigned runs, unsigned channels) {                  \
        rows::combine_runs<T>(partial, y, runs, channels);                                                             \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
