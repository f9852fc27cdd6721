// Group normalisation with an optional SiLU behind it, channels last, and its gradients; the law is in mod.rs.
//
// A group's channels are few and lie apart, so nothing is summed group by group over x: blocks take runs of pixels with
// all their channels, coalesced, and leave moments of each channel; small kernels put those together.
// x is read twice forward, x and dy twice backward after x for the statistics; no float is added atomically.
#include "shared.cuh"

namespace group_norm {

// x [batch, pixels, channels] -> moments [2, batch, runs, channels]: mean and sum of squares about it, of each run.
template <class T>
__device__ void moments(const T *x, float *found, unsigned pixels, unsigned channels, unsigned width, unsigned lanes,
                        unsigned each) {
    Place p = place(width, lanes, each, pixels);
    x += (length_t)blockIdx.y * pixels * channels;
    length_t at = ((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels;
    length_t half = (length_t)gridDim.y * gridDim.x * channels;
    for (unsigned begin = 0; begin < channels; begin += width) {
        unsigned c = begin + p.channel;
        bool is_used = p.is_used && c < channels;
        float sum = 0, squares = 0, shift = 0;
        if (is_used) {
            // About the run's first value, so that a large mean costs no digits.
            shift = wide(x[p.first * channels + c]);
            for (length_t k = p.first + p.lane; k < p.last; k += lanes) {
                float d = wide(x[k * channels + c]) - shift;
                sum += d;
                squares += d * d;
            }
        }
        lane_sums(sum, squares, width, lanes);
        if (is_used && p.lane == 0) {
            float n = (float)(p.last - p.first), rest = squares - sum * (sum / n);
            found[at + c] = shift + sum / n;
            found[half + at + c] = rest < 0 ? 0 : rest;
        }
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

// What a thread needs to know of its channel.
struct Channel {
    float mean, rstd, gamma, beta;
};

template <class T>
__device__ __forceinline__ Channel channel(const T *gamma, const T *beta, const float *statistics, unsigned c,
                                           unsigned channels, unsigned groups, unsigned per_example) {
    const float *own = statistics + 2 * ((length_t)blockIdx.y * groups + c / (channels / groups));
    length_t s = per_example ? (length_t)blockIdx.y * channels + c : c;
    Channel found = {own[0], own[1], wide(gamma[s]), wide(beta[s])};
    return found;
}

template <class T>
__device__ void normalise(const T *x, const T *gamma, const T *beta, const float *statistics, T *y, unsigned pixels,
                          unsigned channels, unsigned groups, unsigned per_example, unsigned silu, unsigned width,
                          unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, pixels);
    if (!p.is_used) return;
    length_t example = (length_t)blockIdx.y * pixels * channels;
    for (unsigned c = p.channel; c < channels; c += width) {
        Channel own = channel(gamma, beta, statistics, c, channels, groups, per_example);
        for (length_t k = p.first + p.lane; k < p.last; k += lanes) {
            length_t at = example + k * channels + c;
            float z = (wide(x[at]) - own.mean) * own.rstd * own.gamma + own.beta;
            y[at] = narrow<T>(silu ? z * sigmoid(z) : z);
        }
    }
}

// (x_hat, dz) of one element.
struct Slope {
    float normed, dz;
};

__device__ __forceinline__ Slope slope(float dy, float x, const Channel &own, unsigned silu) {
    Slope found;
    found.normed = (x - own.mean) * own.rstd;
    float z = found.normed * own.gamma + own.beta, s = sigmoid(z);
    found.dz = silu ? dy * s * (1.f + z * (1.f - s)) : dy;
    return found;
}

// -> partial [2, batch, runs, channels]: sums of dz * x_hat and of dz over each run.
template <class T>
__device__ void scale_gradients(const T *dy, const T *x, const T *gamma, const T *beta, const float *statistics,
                                float *partial, unsigned pixels, unsigned channels, unsigned groups,
                                unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, pixels);
    length_t example = (length_t)blockIdx.y * pixels * channels;
    length_t to = ((length_t)blockIdx.y * gridDim.x + blockIdx.x) * channels;
    length_t half = (length_t)gridDim.y * gridDim.x * channels;
    for (unsigned begin = 0; begin < channels; begin += width) {
        unsigned c = begin + p.channel;
        bool is_used = p.is_used && c < channels;
        float of_gamma = 0, of_beta = 0;
        if (is_used) {
            Channel own = channel(gamma, beta, statistics, c, channels, groups, per_example);
            for (length_t k = p.first + p.lane; k < p.last; k += lanes) {
                length_t at = example + k * channels + c;
                Slope found = slope(wide(dy[at]), wide(x[at]), own, silu);
                of_gamma += found.dz * found.normed;
                of_beta += found.dz;
            }
        }
        lane_sums(of_gamma, of_beta, width, lanes);
        if (is_used && p.lane == 0) {
            partial[to + c] = of_gamma;
            partial[half + to + c] = of_beta;
        }
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

template <class T>
__device__ void input_gradient(const T *dy, const T *x, const T *gamma, const T *beta, const float *statistics,
                               const float *means, T *dx, unsigned pixels, unsigned channels, unsigned groups,
                               unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, pixels);
    if (!p.is_used) return;
    length_t example = (length_t)blockIdx.y * pixels * channels;
    for (unsigned c = p.channel; c < channels; c += width) {
        Channel own = channel(gamma, beta, statistics, c, channels, groups, per_example);
        const float *mean = means + 2 * ((length_t)blockIdx.y * groups + c / (channels / groups));
        for (length_t k = p.first + p.lane; k < p.last; k += lanes) {
            length_t at = example + k * channels + c;
            Slope found = slope(wide(dy[at]), wide(x[at]), own, silu);
            dx[at] = narrow<T>(own.rstd * (found.dz * own.gamma - mean[0] - found.normed * mean[1]));
        }
    }
}

} // namespace group_norm

KERNEL(group_norm_statistics_f32, const float *moments, float *found, unsigned runs, unsigned each, unsigned pixels,
       unsigned channels, unsigned groups, float epsilon) {
    group_norm::statistics(moments, found, runs, each, pixels, channels, groups, epsilon);
}

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(group_norm_moments_##suffix, const T *x, float *found, unsigned pixels, unsigned channels, unsigned width,  \
           unsigned lanes, unsigned each) {                                                                            \
        group_norm::moments<T>(x, found, pixels, channels, width, lanes, each);                                        \
    }                                                                                                                  \
    KERNEL(group_norm_normalise_##suffix, const T *x, const T *gamma, const T *beta, const float *statistics, T *y,    \
           unsigned pixels, unsigned channels, unsigned groups, unsigned per_example, unsigned silu, unsigned width,   \
           unsigned lanes, unsigned each) {                                                                            \
        group_norm::normalise<T>(x, gamma, beta, statistics, y, pixels, channels, groups, per_example, silu, width,    \
                                 lanes, each);                                                                         \
    }                                                                                                                  \
    KERNEL(group_norm_scale_gradients_##suffix, const T *dy, const T *x, const T *gamma, const T *beta,                \
           const float *statistics, float *partial, unsigned pixels, unsigned channels, unsigned groups,               \
           unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {                       \
        group_norm::scale_gradients<T>(dy, x, gamma, beta, statistics, partial, pixels, channels, groups, per_example, \
                                       silu, width, lanes, each);                                                      \
    }                                                                                                                  \
    KERNEL(group_norm_group_means_##suffix, const T *gamma, const float *sums, float *means, unsigned pixels,          \
           unsigned channels, unsigned groups, unsigned per_example) {                                                 \
        group_norm::group_means<T>(gamma, sums, means, pixels, channels, groups, per_example);                         \
    }                                                                                                                  \
    KERNEL(group_norm_input_gradient_##suffix, const T *dy, const T *x, const T *gamma, const T *beta,                 \
           const float *statistics, const float *means, T *dx, unsigned pixels, unsigned channels, unsigned groups,    \
           unsigned per_example, unsigned silu, unsigned width, unsigned lanes, unsigned each) {                       \
        group_norm::input_gradient<T>(dy, x, gamma, beta, statistics, means, dx, pixels, channels, groups,             \
                                      per_example, silu, width, lanes, each);                                          \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
