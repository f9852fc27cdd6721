// Nearest-neighbour upsampling by two, channels last, and its gradient; the law is in mod.rs.
//
// Forward moves units of 2, 4 or 16 bytes, whatever they hold. Bandwidth is the limit: five elements for each of x.
#include "shared.cuh"

namespace upsample {

// y [batch, 2 height, 2 width, units]; a thread for each unit of y, `all` of them; `width` and `units` are x's.
template <class Unit>
__device__ void forward(const Unit *x, Unit *y, unsigned all, unsigned width, unsigned units) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= all) return;
    unsigned u = i % units, pixel = i / units, column = pixel % (2 * width), row = pixel / (2 * width);
    // Two rows of y, over all images, belong to one of x.
    y[i] = x[((length_t)(row / 2) * width + column / 2) * units + u];
}

// dx [batch, height, width, channels]; a thread for each pack of dx.
template <class T, unsigned V>
__device__ void gradient(const T *dy, T *dx, unsigned all, unsigned width, unsigned channels) {
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= all) return;
    unsigned c = i % channels, pixel = i / channels, column = pixel % width, row = pixel / width;
    length_t below = (length_t)2 * width * channels;
    const T *upper = dy + (length_t)row * 2 * below + (length_t)column * 2 * channels + c, *lower = upper + below;
    float a[V], b[V], left[V], right[V];
    read<V>(upper, a);
    read<V>(upper + channels, b);
    read<V>(lower, left);
    read<V>(lower + channels, right);
    for (unsigned v = 0; v < V; v++) a[v] = (a[v] + b[v]) + (left[v] + right[v]);
    write<V>(dx + i, a);
}

} // namespace upsample

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(upsample_gradient_##suffix, const T *dy, T *dx, unsigned all, unsigned width, unsigned channels) {          \
        upsample::gradient<T, V>(dy, dx, all, width, channels);                                                        \
    }
FOR_EACH_PACK(KERNELS)
#undef KERNELS

#define KERNELS(suffix, Unit)                                                                                          \
    KERNEL(upsample_forward_##suffix, const Unit *x, Unit *y, unsigned all, unsigned width, unsigned units) {          \
        upsample::forward<Unit>(x, y, all, width, units);                                                              \
    }
FOR_EACH_UNIT(KERNELS)
#undef KERNELS
