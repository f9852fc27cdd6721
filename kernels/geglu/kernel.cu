// The gated linear unit of transformers: y = a * gelu(b), a and b the halves of x's channels; the law is in mod.rs.
//
// Packs of 16 bytes. Bandwidth is the limit: three numbers moved forward, five backward.
#include "shared.cuh"

namespace geglu {

// The normal distribution function, accurate in its tail as well.
__device__ __forceinline__ float distribution(float b) { return 0.5f * erfcf(-0.70710678f * b); }

// x [rows, 2n] -> y [rows, n]; `all` = rows * n, a thread for each pack of y.
template <class T, unsigned V> __device__ void forward(const T *x, T *y, unsigned all, unsigned n) {
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= all) return;
    length_t at = (length_t)(i / n) * 2 * n + i % n;
    float a[V], b[V];
    read<V>(x + at, a);
    read<V>(x + at + n, b);
    for (unsigned v = 0; v < V; v++) a[v] *= b[v] * distribution(b[v]);
    write<V>(y + i, a);
}

template <class T, unsigned V> __device__ void gradient(const T *dy, const T *x, T *dx, unsigned all, unsigned n) {
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= all) return;
    length_t at = (length_t)(i / n) * 2 * n + i % n;
    float a[V], b[V], g[V];
    read<V>(x + at, a);
    read<V>(x + at + n, b);
    read<V>(dy + i, g);
    for (unsigned v = 0; v < V; v++) {
        float phi = distribution(b[v]), density = 0.3989422804f * expf(-0.5f * b[v] * b[v]);
        float of_b = g[v] * a[v] * (phi + b[v] * density);
        a[v] = g[v] * b[v] * phi;
        b[v] = of_b;
    }
    write<V>(dx + at, a);
    write<V>(dx + at + n, b);
}

} // namespace geglu

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(geglu_forward_##suffix, const T *x, T *y, unsigned all, unsigned n) { geglu::forward<T, V>(x, y, all, n); } \
    KERNEL(geglu_gradient_##suffix, const T *dy, const T *x, T *dx, unsigned all, unsigned n) {                        \
        geglu::gradient<T, V>(dy, x, dx, all, n);                                                                      \
    }
FOR_EACH_PACK(KERNELS)
#undef KERNELS
