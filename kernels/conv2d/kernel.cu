// The moves around a convolution's products, channels last: unfolding windows into rows, folding rows back, turning
// weights, and the bias that the product adds onto. The law is in mod.rs.
//
// A row of the unfolded matrix is one output pixel: its kernel^2 input pixels one after another, each with its channels.
// Unfolding moves units of 2, 4 or 16 bytes, whatever they hold; out of the image is zero. Limit: bandwidth.
#include "shared.cuh"

namespace conv2d {

// x [batch, height, width, units] -> rows [gridDim.x, kernel^2 * units], a block for each output pixel from `first` on.
// `flipped`: the window's pixels from the last to the first, as the input gradient wants them.
template <class Unit>
__device__ void unfold(const Unit *x, Unit *rows, length_t first, unsigned height, unsigned width, unsigned height_out,
                       unsigned width_out, unsigned units, unsigned kernel, unsigned stride, unsigned before,
                       unsigned flipped) {
    length_t pixel = first + blockIdx.x;
    unsigned j = (unsigned)(pixel % width_out), i = (unsigned)(pixel / width_out % height_out);
    x += pixel / ((length_t)width_out * height_out) * height * width * units;
    rows += (length_t)blockIdx.x * kernel * kernel * units;
    for (unsigned k = threadIdx.x; k < kernel * kernel * units; k += blockDim.x) {
        unsigned tap = flipped ? kernel * kernel - 1 - k / units : k / units;
        // Below zero wraps around and is beyond the image as well.
        unsigned row = i * stride + tap / kernel - before, column = j * stride + tap % kernel - before;
        Unit none = {};
        rows[k] = row < height && column < width ? x[((length_t)row * width + column) * units + k % units] : none;
    }
}

// rows -> dx [batch, height, width, channels]: each input pixel gathers what the windows that read it hold of it.
// A block for each input pixel of the images from `first` on, whose windows begin at rows' first row.
template <class T>
__device__ void fold(const float *rows, T *dx, unsigned first, unsigned height, unsigned width, unsigned height_out,
                     unsigned width_out, unsigned channels, unsigned kernel, unsigned stride, unsigned before) {
    unsigned column = blockIdx.x % width, row = blockIdx.x / width % height, image = blockIdx.x / width / height;
    dx += (((length_t)(first + image) * height + row) * width + column) * channels;
    for (unsigned c = threadIdx.x; c < channels; c += blockDim.x) {
        float sum = 0;
        for (unsigned u = 0; u < kernel; u++) {
            unsigned i = row + before - u; // stride * output row; wraps below zero
            if (i % stride || i / stride >= height_out || row + before < u) continue;
            for (unsigned v = 0; v < kernel; v++) {
                unsigned j = column + before - v;
                if (j % stride || j / stride >= width_out || column + before < v) continue;
                length_t pixel = ((length_t)image * height_out + i / stride) * width_out + j / stride;
                sum += rows[(pixel * kernel * kernel + u * kernel + v) * channels + c];
            }
        }
        dx[c] = narrow<T>(sum);
    }
}

// from [outer, rows, columns] -> to [outer, columns, rows]; a thread for each element, in the order of `to`.
template <class From, class To>
__device__ void turn(const From *from, To *to, unsigned all, unsigned rows, unsigned columns) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= all) return;
    unsigned r = i % rows, c = i / rows % columns, o = i / rows / columns;
    to[i] = narrow<To>(wide(from[((length_t)o * rows + r) * columns + c]));
}

// y [batch, pixels, channels] <- bias [channels], or [batch, channels] where `per_example`.
template <class T>
__device__ void bias(const T *bias, T *y, unsigned all, unsigned pixels, unsigned channels, unsigned per_example) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all) y[i] = bias[(per_example ? i / channels / pixels * channels : 0) + i % channels];
}

} // namespace conv2d

#define KERNELS(suffix, Unit)                                                                                          \
    KERNEL(conv2d_unfold_##suffix, const Unit *x, Unit *rows, unsigned long long first, unsigned height,               \
           unsigned width, unsigned height_out, unsigned width_out, unsigned units, unsigned kernel, unsigned stride,  \
           unsigned before, unsigned flipped) {                                                                        \
        conv2d::unfold<Unit>(x, rows, first, height, width, height_out, width_out, units, kernel, stride, before,      \
                             flipped);                                                                                 \
    }
FOR_EACH_UNIT(KERNELS)
#undef KERNELS

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(conv2d_fold_##suffix, const float *rows, T *dx, unsigned first, unsigned height, unsigned width,                \
           unsigned height_out, unsigned width_out, unsigned channels, unsigned kernel, unsigned stride,               \
           unsigned before) {                                                                                          \
        conv2d::fold<T>(rows, dx, first, height, width, height_out, width_out, channels, kernel, stride, before);      \
    }                                                                                                                  \
    KERNEL(conv2d_turn_##suffix, const T *from, T *to, unsigned all, unsigned rows, unsigned columns) {                \
        conv2d::turn<T, T>(from, to, all, rows, columns);                                                              \
    }                                                                                                                  \
    KERNEL(conv2d_turn_sums_##suffix, const float *from, T *to, unsigned all, unsigned rows, unsigned columns) {       \
        conv2d::turn<float, T>(from, to, all, rows, columns);                                                          \
    }                                                                                                                  \
    KERNEL(conv2d_bias_##suffix, const T *bias, T *y, unsigned all, unsigned pixels, unsigned channels,                \
           unsigned per_example) {                                                                                     \
        conv2d::bias<T>(bias, y, all, pixels, channels, per_example);                                                  \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
