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

// Numbers of a tile that is turned in shared memory.
static const unsigned TILE = 4096;

// from [outer, rows, columns] -> to [outer, columns, rows], through shared memory, so that both sides are met in order;
// grid (tiles of an outer index, outer). A tile has all of the shorter side (`rows` or `columns`), 64 at most, and `each` of
// the longer one.
template <class From, class To>
__device__ void turn(const From *from, To *to, unsigned rows, unsigned columns, unsigned each) {
    SHARED(float, tile, TILE);
    length_t outer = (length_t)blockIdx.y * rows * columns;
    unsigned first = blockIdx.x * each;
    from += outer;
    to += outer;
    if (columns < rows) { // as weights lie in files: a run of rows lies in one piece
        unsigned count = first + each < rows ? each : rows - first;
        for (unsigned i = threadIdx.x; i < count * columns; i += blockDim.x)
            tile[i] = wide(from[(length_t)first * columns + i]);
        __syncthreads();
        for (unsigned c = 0; c < columns; c++)
            for (unsigned r = threadIdx.x; r < count; r += blockDim.x)
                to[(length_t)c * rows + first + r] = narrow<To>(tile[r * columns + c]);
    } else { // the way back
        unsigned count = first + each < columns ? each : columns - first;
        for (unsigned r = 0; r < rows; r++)
            for (unsigned c = threadIdx.x; c < count; c += blockDim.x)
                tile[c * rows + r] = wide(from[(length_t)r * columns + first + c]);
        __syncthreads();
        for (unsigned i = threadIdx.x; i < count * rows; i += blockDim.x)
            to[(length_t)first * rows + i] = narrow<To>(tile[i]);
    }
}

// The same where neither side is short: tiles of 32 x 32; grid (tiles of columns, tiles of rows), one outer index.
template <class T> __device__ void transpose(const T *from, T *to, unsigned rows, unsigned columns) {
    SHARED(float, tile, WARP * (WARP + 1)); // a row more, so that no bank is met twice
    unsigned column = blockIdx.x * WARP, row = blockIdx.y * WARP, lane = threadIdx.x % WARP, step = blockDim.x / WARP;
    for (unsigned r = threadIdx.x / WARP; r < WARP; r += step)
        if (row + r < rows && column + lane < columns)
            tile[r * (WARP + 1) + lane] = wide(from[(length_t)(row + r) * columns + column + lane]);
    __syncthreads();
    for (unsigned c = threadIdx.x / WARP; c < WARP; c += step)
        if (column + c < columns && row + lane < rows)
            to[(length_t)(column + c) * rows + row + lane] = narrow<T>(tile[lane * (WARP + 1) + c]);
}

// y [batch, pixels, units] <- bias [units], or [batch, units] where `per_example`; a thread for each unit of y.
template <class Unit>
__device__ void bias(const Unit *bias, Unit *y, unsigned all, unsigned pixels, unsigned units, unsigned per_example) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all) y[i] = bias[(per_example ? i / units / pixels * units : 0) + i % units];
}

} // namespace conv2d

#define KERNELS(suffix, Unit)                                                                                          \
    KERNEL(conv2d_unfold_##suffix, const Unit *x, Unit *rows, unsigned long long first, unsigned height,               \
           unsigned width, unsigned height_out, unsigned width_out, unsigned units, unsigned kernel, unsigned stride,  \
           unsigned before, unsigned flipped) {                                                                        \
        conv2d::unfold<Unit>(x, rows, first, height, width, height_out, width_out, units, kernel, stride, before,      \
                             flipped);                                                                                 \
    }                                                                                                                  \
    KERNEL(conv2d_bias_##suffix, const Unit *bias, Unit *y, unsigned all, unsigned pixels, unsigned units,             \
           unsigned per_example) {                                                                                     \
        conv2d::bias<Unit>(bias, y, all, pixels, units, per_example);                                                  \
    }
FOR_EACH_UNIT(KERNELS)
#undef KERNELS

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(conv2d_fold_##suffix, const float *rows, T *dx, unsigned first, unsigned height, unsigned width,                \
           unsigned height_out, unsigned width_out, unsigned channels, unsigned kernel, unsigned stride,               \
           unsigned before) {                                                                                          \
        conv2d::fold<T>(rows, dx, first, height, width, height_out, width_out, channels, kernel, stride, before);      \
    }                                                                                                                  \
    KERNEL(conv2d_turn_##suffix, const T *from, T *to, unsigned rows, unsigned columns, unsigned each) {               \
        conv2d::turn<T, T>(from, to, rows, columns, each);                                                             \
    }                                                                                                                  \
    KERNEL(conv2d_turn_sums_##suffix, const float *from, T *to, unsigned rows, unsigned columns, unsigned each) {      \
        conv2d::turn<float, T>(from, to, rows, columns, each);                                                         \
    }                                                                                                                  \
    KERNEL(conv2d_transpose_##suffix, const T *from, T *to, unsigned rows, unsigned columns) {                         \
        conv2d::transpose<T>(from, to, rows, columns);                                                                 \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
