// Layer normalisation over the last dimension, and its gradients; the law is in mod.rs.
//
// A warp for each row, which it reads again from the first-level cache; sums down the rows are taken in runs of rows.
// Bandwidth is the limit: two numbers moved forward, five backward.
#include "rows.cuh"

namespace layer_norm {

using namespace rows;

// f(at, pack) of each of a warp's packs of its row.
template <unsigned V, class T, class F> __device__ __forceinline__ void each_pack(const T *x, unsigned n, F f) {
#pragma unroll 4
    for (unsigned c = threadIdx.x % WARP * V; c < n; c += WARP * V) {
        float own[V];
        read<V>(x + c, own);
        f(c, own);
    }
}

// The row of this warp; beyond `rows` there is none.
__device__ __forceinline__ length_t row_of_warp() {
    return (length_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// Mean and 1 / sqrt(variance + epsilon) of the warp's row.
template <class T, unsigned V>
__device__ __forceinline__ void statistics(const T *x, unsigned n, float epsilon, float &mean, float &rstd) {
    float about = wide(x[0]), sum = 0, square = 0; // so that a large mean costs no digits
    each_pack<V>(x, n, [&](unsigned, float(&own)[V]) {
        for (unsigned v = 0; v < V; v++) sum += own[v] - about;
    });
    mean = about + warp_sum(sum) / n;
    each_pack<V>(x, n, [&](unsigned, float(&own)[V]) {
        for (unsigned v = 0; v < V; v++) square += (own[v] - mean) * (own[v] - mean);
    });
    rstd = 1.f / sqrtf(warp_sum(square) / n + epsilon);
}

template <class T, unsigned V>
__device__ void forward(const T *x, const T *gamma, const T *beta, T *__restrict__ y, unsigned rows, unsigned n,
                        float epsilon) {
    length_t row = row_of_warp();
    if (row >= rows) return;
    x += row * n;
    float mean, rstd;
    statistics<T, V>(x, n, epsilon, mean, rstd);
    each_pack<V>(x, n, [&](unsigned c, float(&own)[V]) {
        float of_gamma[V], of_beta[V];
        read<V>(gamma + c, of_gamma);
        read<V>(beta + c, of_beta);
        for (unsigned v = 0; v < V; v++) own[v] = (own[v] - mean) * rstd * of_gamma[v] + of_beta[v];
        write<V>(y + row * n + c, own);
    });
}

// Leaves the rows' statistics [rows, 2] for the sums down the rows.
template <class T, unsigned V>
__device__ void input_gradient(const T *dy, const T *x, const T *gamma, T *__restrict__ dx, float *found,
                               unsigned rows, unsigned n, float epsilon) {
    length_t row = row_of_warp();
    if (row >= rows) return;
    x += row * n;
    dy += row * n;
    float mean, rstd, plain = 0, along = 0;
    statistics<T, V>(x, n, epsilon, mean, rstd);
    // dy * gamma, beside x.
    auto slopes = [&](unsigned c, float(&g)[V]) {
        float of_gamma[V];
        read<V>(dy + c, g);
        read<V>(gamma + c, of_gamma);
        for (unsigned v = 0; v < V; v++) g[v] *= of_gamma[v];
    };
    each_pack<V>(x, n, [&](unsigned c, float(&own)[V]) {
        float g[V];
        slopes(c, g);
        for (unsigned v = 0; v < V; v++) {
            plain += g[v];
            along += g[v] * (own[v] - mean);
        }
    });
    plain = warp_sum(plain) / n;
    along = warp_sum(along) * rstd / n;
    each_pack<V>(x, n, [&](unsigned c, float(&own)[V]) {
        float g[V];
        slopes(c, g);
        for (unsigned v = 0; v < V; v++) own[v] = (g[v] - plain - (own[v] - mean) * rstd * along) * rstd;
        write<V>(dx + row * n + c, own);
    });
    if (threadIdx.x % WARP == 0) {
        found[2 * row] = mean;
        found[2 * row + 1] = rstd;
    }
}

// -> partial [2, runs, n]: sums of dy * x_hat and of dy over each run of rows.
template <class T, unsigned V>
__device__ void scale_gradients(const T *dy, const T *x, const float *statistics, float *partial, unsigned rows,
                                unsigned n, unsigned width, unsigned lanes, unsigned each) {
    Place p = place(width, lanes, each, rows);
    length_t half = (length_t)gridDim.x * n;
    partial += (length_t)blockIdx.x * n;
    for (unsigned begin = 0; begin * V < n; begin += width) {
        unsigned c = (begin + p.column) * V;
        float of_gamma[V] = {}, of_beta[V] = {};
        if (p.is_used && c < n)
            each_row<V>(p, x, dy, n, c, lanes, [&](length_t, length_t k, float(&of_x)[V], float(&g)[V]) {
                float mean = statistics[2 * k], rstd = statistics[2 * k + 1];
                for (unsigned v = 0; v < V; v++) {
                    of_gamma[v] += g[v] * (of_x[v] - mean) * rstd;
                    of_beta[v] += g[v];
                }
            });
        lane_sums(of_gamma, of_beta, width, lanes, [&](unsigned i, float along, float plain) {
            if (begin * V + i >= n) return;
            partial[begin * V + i] = along;
            partial[half + begin * V + i] = plain;
        });
    }
}

} // namespace layer_norm

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(layer_norm_forward_##suffix, const T *x, const T *gamma, const T *beta, T *y, unsigned rows, unsigned n,    \
           float epsilon) {                                                                                            \
        layer_norm::forward<T, V>(x, gamma, beta, y, rows, n, epsilon);                                                \
    }                                                                                                                  \
    KERNEL(layer_norm_input_gradient_##suffix, const T *dy, const T *x, const T *gamma, T *dx, float *found,           \
           unsigned rows, unsigned n, float epsilon) {                                                                 \
        layer_norm::input_gradient<T, V>(dy, x, gamma, dx, found, rows, n, epsilon);                                   \
    }                                                                                                                  \
    KERNEL(layer_norm_scale_gradients_##suffix, const T *dy, const T *x, const float *statistics, float *partial,      \
           unsigned rows, unsigned n, unsigned width, unsigned lanes, unsigned each) {                                 \
        layer_norm::scale_gradients<T, V>(dy, x, statistics, partial, rows, n, width, lanes, each);                    \
    }
FOR_EACH_PACK(KERNELS)
#undef KERNELS
