// Sums down rows of channels: y[o, c] = sum over k of x[o, k, c], channels last.
//
// Two stages, so that many blocks share the rows of one channel and no float is added atomically: the order of the sums
// is a function of the sizes. Neighbouring threads read neighbouring channels. Limit: each x is read once.
#include "shared.cuh"

namespace rows {

// x [outer, rows, channels] -> partial [outer, runs, channels]; grid (runs, outer).
template <class T>
__device__ void sum_runs(const T *x, float *partial, unsigned rows, unsigned channels, unsigned width, unsigned lanes,
                         unsigned each) {
    Place p = place(width, lanes, each, rows);
    x += (length_t)blockIdx.y * rows * channels;
    for (unsigned begin = 0; begin < channels; begin += width) {
        unsigned c = begin + p.channel;
        float sum = 0, none = 0;
        if (p.is_used && c < channels)
            for (length_t k = p.first + p.lane; k < p.last; k += lanes) sum += wide(x[k * channels + c]);
        lane_sums(sum, none, width, lanes);
        if (p.lane == 0 && c < channels)
            partial[((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels + c] = sum;
    }
}

// partial [outer, runs, channels] -> y [outer, channels]; n = outer * channels, a thread each.
template <class T>
__device__ void combine_runs(const float *partial, T *y, unsigned n, unsigned runs, unsigned channels) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float *own = partial + (length_t)(i / channels) * runs * channels + i % channels;
    double sum = 0;
    for (unsigned k = 0; k < runs; k++) sum += own[(length_t)k * channels];
    y[i] = narrow<T>((float)sum);
}

} // namespace rows

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(gpu_sum_runs_##suffix, const T *x, float *partial, unsigned rows, unsigned channels, unsigned width,        \
           unsigned lanes, unsigned each) {                                                                            \
        rows::sum_runs<T>(x, partial, rows, channels, width, lanes, each);                                             \
    }                                                                                                                  \
    KERNEL(gpu_combine_runs_##suffix, const float *partial, T *y, unsigned n, unsigned runs, unsigned channels) {      \
        rows::combine_runs<T>(partial, y, n, runs, channels);                                                          \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
