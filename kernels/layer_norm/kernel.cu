// Layer normalisation over the last dimension, and its gradients; the law is in mod.rs.
//
// A block for each row, which it reads again from the first-level cache; sums down the rows are taken in runs of rows.
// Bandwidth is the limit: two numbers moved forward, five backward.
#include "shared.cuh"

namespace layer_norm {

// Mean and 1 / sqrt(variance + epsilon) of the block's row.
template <class T> __device__ void statistics(const T *x, unsigned n, float epsilon, float &mean, float &rstd) {
    float about = wide(x[0]), sum = 0, square = 0; // so that a large mean costs no digits
    for (unsigned c = threadIdx.x; c < n; c += blockDim.x) sum += wide(x[c]) - about;
    mean = about + block_sum(sum) / n;
    for (unsigned c = threadIdx.x; c < n; c += blockDim.x) {
        float d = wide(x[c]) - mean;
        square += d * d;
    }
    rstd = 1.f / sqrtf(block_sum(square) / n + epsilon);
}

template <class T>
__device__ void forward(const T *x, const T *gamma, const T *beta, T *y, unsigned n, float epsilon) {
    x += (length_t)blockIdx.x * n;
    y += (length_t)blockIdx.x * n;
    float mean, rstd;
    statistics(x, n, epsilon, mean, rstd);
    for (unsigned c = threadIdx.x; c < n; c += blockDim.x)
        y[c] = narrow<T>((wide(x[c]) - mean) * rstd * wide(gamma[c]) + wide(beta[c]));
}

// Leaves the rows' statistics [rows, 2] for the sums down the rows.
template <class T>
__device__ void input_gradient(const T *dy, const T *x, const T *gamma, T *dx, float *found, unsigned n,
                               float epsilon) {
    length_t row = (length_t)blockIdx.x * n;
    float mean, rstd, plain = 0, along = 0;
    statistics(x + row, n, epsilon, mean, rstd);
    for (unsigned c = threadIdx.x; c < n; c += blockDim.x) {
        float g = wide(dy[row + c]) * wide(gamma[c]);
        plain += g;
        along += g * (wide(x[row + c]) - mean);
    }
    plain = block_sum(plain) / n;
    along = block_sum(along) * rstd / n;
    for (unsigned c = threadIdx.x; c < n; c += blockDim.x) {
        float g = wide(dy[row + c]) * wide(gamma[c]), normed = (wide(x[row + c]) - mean) * rstd;
        dx[row + c] = narrow<T>((g - plain - normed * along) * rstd);
    }
    if (threadIdx.x == 0) {
        found[2 * (length_t)blockIdx.x] = mean;
        found[2 * (length_t)blockIdx.x + 1] = rstd;
    }
}

// -> partial [2, runs, n]: sums of dy * x_hat and of dy over each run of rows.
template <class T>
__device__ void scale_gradients(const T *dy, const T *x, const float *statistics, float *partial, unsigned rows,
                                unsigned n, unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, rows);
    for (unsigned begin = 0; begin < n; begin += width) {
        unsigned c = begin + p.channel;
        bool is_used = p.is_used && c < n;
        float of_gamma = 0, of_beta = 0;
        if (is_used)
            for (length_t k = p.first + p.lane; k < p.last; k += lanes) {
                float g = wide(dy[k * n + c]);
                of_gamma += g * (wide(x[k * n + c]) - statistics[2 * k]) * statistics[2 * k + 1];
                of_beta += g;
            }
        lane_sums(of_gamma, of_beta, width, lanes);
        if (is_used && p.lane == 0) {
            partial[(length_t)blockIdx.x * n + c] = of_gamma;
            partial[((length_t)gridDim.x + blockIdx.x) * n + c] = of_beta;
        }
    }
}

} // namespace layer_norm

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(layer_norm_forward_##suffix, const T *x, const T *gamma, const T *beta, T *y, unsigned n, float epsilon) {  \
        layer_norm::forward<T>(x, gamma, beta, y, n, epsilon);                                                         \
    }                                                                                                                  \
    KERNEL(layer_norm_input_gradient_##suffix, const T *dy, const T *x, const T *gamma, T *dx, float *found,           \
           unsigned n, float epsilon) {                                                                                \
        layer_norm::input_gradient<T>(dy, x, gamma, dx, found, n, epsilon);                                            \
    }                                                                                                                  \
    KERNEL(layer_norm_scale_gradients_##suffix, const T *dy, const T *x, const float *statistics, float *partial,      \
           unsigned rows, unsigned n, unsigned width, unsigned lanes, unsigned each) {                                 \
        layer_norm::scale_gradients<T>(dy, x, statistics, partial, rows, n, width, lanes, each);                       \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
