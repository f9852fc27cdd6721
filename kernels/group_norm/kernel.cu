// Group normalisation with an optional SiLU behind it, channels last, and its gradients; the law is in mod.rs.
//
// A group's channels are few and lie apart, so nothing is summed group by group over x: blocks take runs of pixels with
// all their channels, coalesced, and leave moments of each channel; small kernels put those together.
// x is read twice forward, x and dy twice backward; no float is added atomically.
#include "rows.cuh"

namespace group_norm {

using namespace rows;

// x [batch, pixels, channels] -> moments [2, batch, runs, channels]: mean and sum of squares about it, of each run.
template <class T, unsigned V>
__device__ void moments(const T *x, float *found, unsigned pixels, unsigned channels, unsigned width, unsigned lanes,
                        unsigned each) {
    Place p = place(width, lanes, each, pixels);
    x += (length_t)blockIdx.y * pixels * channels;
    found += ((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels;
    length_t half = (length_t)gridDim.y * gridDim.x * channels;
    for (unsigned begin = 0; begin * V < channels; begin += width) {
        unsigned c = (begin + p.column) * V;
        float sum[V] = {}, squares[V] = {}, about[V];
        if (p.is_used && c < channels) {
            // About the run's first value, so that a large mean costs no digits.
            read<V>(x + p.first * channels + c, about);
            each_row<V>(p, x, (const T *)0, channels, c, lanes, [&](length_t, length_t, float(&own)[V], float(&)[V]) {
#pragma unroll
                for (unsigned v = 0; v < V; v++) {
                    float d = own[v] - about[v];
                    sum[v] += d;
                    squares[v] += d * d;
                }
            });
        }
        lane_sums(sum, squares, width, lanes, [&](unsigned i, float all, float square) {
            unsigned c = begin * V + i;
            if (c >= channels) return;
            float n = (float)(p.last - p.first), rest = square - all * (all / n);
            found[c] = wide(x[p.first * channels + c]) + all / n;
            found[half + c] = rest < 0 ? 0 : rest;
        });
    }
}

// moments -> statistics [batch, groups, 2]: mean and 1 / sqrt(variance + epsilon); grid (groups, batch).
__device__ void statistics(const float *moments, float *found, unsigned runs, unsigned each, unsigned pixels,
                           unsigned channels, unsigned groups, float epsilon) {
    unsigned own = channels / groups, items = runs * own;
    length_t at = (length_t)blockIdx.y * runs * channels + blockIdx.x * own;
    const float *means = moments + at, *squares = means + (length_t)gridDim.y * runs * channels;
    double n = (double)pixels * own, sum = 0;
    for (unsigned i = threadIdx.x; i < items; i += blockDim.x) {
        unsigned run = i / own, size = run + 1 < runs ? each : pixels - run * each;
        sum += (double)size * means[(length_t)run * channels + i % own];
    }
    double mean = block_sum(sum) / n, square = 0;
    for (unsigned i = threadIdx.x; i < items; i += blockDim.x) {
        unsigned run = i / own, size = run + 1 < runs ? each : pixels - run * each;
        double d = means[(length_t)run * channels + i % own] - mean;
        square += squares[(length_t)run * channels + i % own] + size * d * d;
    }
    double variance = block_sum(square) / n;
    if (threadIdx.x == 0) {
        float *to = found + 2 * ((length_t)blockIdx.y * groups + blockIdx.x);
        to[0] = (float)mean;
        to[1] = (float)(1. / sqrt(variance + epsilon));
    }
}

// What a thread needs to know of its channels.
template <unsigned V> struct Channels {
    float mean[V], rstd[V], gamma[V], beta[V];

    template <class T>
    __device__ __forceinline__ Channels(const T *of_gamma, const T *of_beta, const float *statistics, unsigned c,
                                        unsigned channels, unsigned groups, unsigned per_example) {
        length_t s = per_example ? (length_t)blockIdx.y * channels + c : c;
#pragma unroll
        for (unsigned v = 0; v < V; v++) {
            const float *own = statistics + 2 * ((length_t)blockIdx.y * groups + (c + v) / (channels / groups));
            mean[v] = own[0];
            rstd[v] = own[1];
            gamma[v] = wide(of_gamma[s + v]);
            beta[v] = wide(of_beta[s + v]);
        }
    }
};

template <class T, unsigned V>
__device__ void normalise(const T *x, const T *gamma, const T *beta, const float *statistics, T *__restrict__ y,
                          unsigned pixels, unsigned channels, unsigned groups, unsigned per_example, unsigned silu,
                          unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, pixels);
    if (!p.is_used) return;
    length_t example = (length_t)blockIdx.y * pixels * channels;
    for (unsigned c = p.column * V; c < channels; c += width * V) {
        Channels<V> own(gamma, beta, statistics, c, channels, groups, per_example);
        each_row<V>(p, x + example, (const T *)0, channels, c, lanes,
                    [&](length_t at, length_t, float(&z)[V], float(&)[V]) {
#pragma unroll
                        for (unsigned v = 0; v < V; v++) {
                            z[v] = (z[v] - own.mean[v]) * own.rstd[v] * own.gamma[v] + own.beta[v];
                            if (silu) z[v] *= sigmoid(z[v]);
                        }
                        write<V>(y + example + at, z);
                    });
    }
}

// dz of one element whose x_hat is `normed`.
__device__ __forceinline__ float slope(float dy, float normed, float gamma, float beta, unsigned silu) {
    float z = normed * gamma + beta, s = sigmoid(z);
    return silu ? dy * s * (1.f + z * (1.f - s)) : dy;
}

// -> partial [2, batch, runs, channels]: sums of dz * x_hat and of dz over each run.
template <class T, unsigned V>
__device__ void scale_gradients(const T *dy, const T *x, const T *gamma, const T *beta, const float *statistics,
                                float *partial, unsigned pixels, unsigned channels, unsigned groups,
                                unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, pixels);
    length_t example = (length_t)blockIdx.y * pixels * channels;
    partial += ((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels;
    length_t half = (length_t)gridDim.y * gridDim.x * channels;
    for (unsigned begin = 0; begin * V < channels; begin += width) {
        unsigned c = (begin + p.column) * V;
        float of_gamma[V] = {}, of_beta[V] = {};
        if (p.is_used && c < channels) {
            Channels<V> own(gamma, beta, statistics, c, channels, groups, per_example);
            each_row<V>(p, x + example, dy + example, channels, c, lanes,
                        [&](length_t, length_t, float(&of_x)[V], float(&of_dy)[V]) {
#pragma unroll
                            for (unsigned v = 0; v < V; v++) {
                                float normed = (of_x[v] - own.mean[v]) * own.rstd[v];
                                float dz = slope(of_dy[v], normed, own.gamma[v], own.beta[v], silu);
                                of_gamma[v] += dz * normed;
                                of_beta[v] += dz;
                            }
                        });
        }
        lane_sums(of_gamma, of_beta, width, lanes, [&](unsigned i, float along, float plain) {
            if (begin * V + i >= channels) return;
            partial[begin * V + i] = along;
            partial[half + begin * V + i] = plain;
        });
    }
}

// sums [2, batch, channels] of dz * x_hat and dz -> means [batch, groups, 2] of dx_hat and of dx_hat * x_hat.
template <class T>
__device__ void group_means(const T *gamma, const float *sums, float *means, unsigned pixels, unsigned channels,
                            unsigned groups, unsigned per_example) {
    unsigned own = channels / groups;
    length_t row = (length_t)blockIdx.y * channels, half = (length_t)gridDim.y * channels;
    double plain = 0, along = 0;
    for (unsigned i = threadIdx.x; i < own; i += blockDim.x) {
        unsigned c = blockIdx.x * own + i;
        double g = wide(gamma[per_example ? row + c : c]);
        along += g * sums[row + c];
        plain += g * sums[half + row + c];
    }
    plain = block_sum(plain);
    along = block_sum(along);
    if (threadIdx.x == 0) {
        float *to = means + 2 * ((length_t)blockIdx.y * groups + blockIdx.x);
        to[0] = (float)(plain / ((double)pixels * own));
        to[1] = (float)(along / ((double)pixels * own));
    }
}

template <class T, unsigned V>
__device__ void input_gradient(const T *dy, const T *x, const T *gamma, const T *beta, const float *statistics,
                               const float *means, T *__restrict__ dx, unsigned pixels, unsigned channels,
                               unsigned groups, unsigned per_example, unsigned silu, unsigned width, unsigned lanes,
                               unsigned each) {
    Place p = place(width, lanes, each, pixels);
    if (!p.is_used) return;
    length_t example = (length_t)blockIdx.y * pixels * channels;
    for (unsigned c = p.column * V; c < channels; c += width * V) {
        Channels<V> own(gamma, beta, statistics, c, channels, groups, per_example);
        float plain[V], along[V];
#pragma unroll
        for (unsigned v = 0; v < V; v++) {
            const float *mean = means + 2 * ((length_t)blockIdx.y * groups + (c + v) / (channels / groups));
            plain[v] = mean[0];
            along[v] = mean[1];
        }
        each_row<V>(p, x + example, dy + example, channels, c, lanes,
                    [&](length_t at, length_t, float(&found)[V], float(&of_dy)[V]) {
#pragma unroll
                        for (unsigned v = 0; v < V; v++) {
                            float normed = (found[v] - own.mean[v]) * own.rstd[v];
                            float dz = slope(of_dy[v], normed, own.gamma[v], own.beta[v], silu);
                            found[v] = own.rstd[v] * (dz * own.gamma[v] - plain[v] - normed * along[v]);
                        }
                        write<V>(dx + example + at, found);
                    });
    }
}

} // namespace group_norm

KERNEL(group_norm_statistics_f32, const float *moments, float *found, unsigned runs, unsigned each, unsigned pixels,
       unsigned channels, unsigned groups, float epsilon) {
    group_norm::statistics(moments, found, runs, each, pixels, channels, groups, epsilon);
}

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(group_norm_moments_##suffix, const T *x, float *found, unsigned pixels, unsigned channels, unsigned width,  \
           unsigned lanes, unsigned each) {                                                                            \
        group_norm::moments<T, V>(x, found, pixels, channels, width, lanes, each);                                     \
    }                                                                                                                  \
    KERNEL(group_norm_normalise_##suffix, const T *x, const T *gamma, const T *beta, const float *statistics, T *y,    \
           unsigned pixels, unsigned channels, unsigned groups, unsigned per_example, unsigned silu, unsigned width,   \
           unsigned lanes, unsigned each) {                                                                            \
        group_norm::normalise<T, V>(x, gamma, beta, statistics, y, pixels, channels, groups, per_example, silu, width, \
                                    lanes, each);                                                                      \
    }                                                                                                                  \
    KERNEL(group_norm_scale_gradients_##suffix, const T *dy, const T *x, const T *gamma, const T *beta,                \
           const float *statistics, float *partial, unsigned pixels, unsigned channels, unsigned groups,               \
           unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {                       \
        group_norm::scale_gradients<T, V>(dy, x, gamma, beta, statistics, partial, pixels, channels, groups,           \
                                          per_example, silu, width, lanes, each);                                      \
    }                                                                                                                  \
    KERNEL(group_norm_input_gradient_##suffix, const T *dy, const T *x, const T *gamma, const T *beta,                 \
           const float *statistics, const float *means, T *dx, unsigned pixels, unsigned channels, unsigned groups,    \
           unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {                       \
        group_norm::input_gradient<T, V>(dy, x, gamma, beta, statistics, means, dx, pixels, channels, groups,          \
                                         per_example, silu, width, lanes, each);                                       \
    }
FOR_EACH_PACK(KERNELS)
#undef KERNELS

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(group_norm_group_means_##suffix, const T *gamma, const float *sums, float *means, unsigned pixels,          \
           unsigned channels, unsigned groups, unsigned per_example) {                                                 \
        group_norm::group_means<T>(gamma, sums, means, pixels, channels, groups, per_example);                         \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
