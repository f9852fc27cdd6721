// The gated linear unit of transformers: y = a * gelu(b), a and b the halves of x's channels; the law is in mod.rs.
//
// A thread for each number of y. Bandwidth is the limit: three numbers moved forward, five backward.
#include "shared.cuh"

namespace geglu {

// The normal distribution function, accurate in its tail as well.
__device__ __forceinline__ float distribution(float b) { return 0.5f * erfcf(-0.70710678f * b); }

// x [rows, 2n] -> y [rows, n]; `all` = rows * n.
template <class T> __device__ void forward(const T *x, T *y, unsigned all, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= all) return;
    const T *a = x + (length_t)(i / n) * 2 * n + i % n;
    float b = wide(a[n]);
    y[i] = narrow<T>(wide(*a) * b * distribution(b));
}

template <class T> __device__ void gradient(const T *dy, const T *x, T *dx, unsigned all, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= all) return;
    length_t at = (length_t)(i / n) * 2 * n + i % n;
    float a = wide(x[at]), b = wide(x[at + n]), g = wide(dy[i]);
    float phi = distribution(b), density = 0.3989422804f * expf(-0.5f * b * b);
    dx[at] = narrow<T>(g * b * phi);
    dx[at + n] = narrow<T>(g * a * (phi + b * density));
}

} // namespace geglu

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(geglu_forward_##suffix, const T *x, T *y, unsigned all, unsigned n) { geglu::forward<T>(x, y, all, n); }    \
    KERNEL(geglu_gradient_##suffix, const T *dy, const T *x, T *dx, unsigned all, unsigned n) {                        \
        geglu::gradient<T>(dy, x, dx, all, n);                                                                         \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
