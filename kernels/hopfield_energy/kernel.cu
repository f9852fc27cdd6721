// Hopfield energies, a tile of similarities at a time: what is merged into the running sums of each query.
//
// The product of queries and patterns is the library's; here a block takes one query's row of the tile, finds its
// largest logit, adds its weights, and raises what was gathered before to the same reference point. The letters are
// those of streamed.rs: A = masses, T = total, S = excess, U = moment, M = largest. Sums are in 64 bits, exponentials
// of differences in 32. The limit is the product; a tile is read twice or, for distances, three times.
#include "shared.cuh"

namespace hopfield_energy {

// found[row] = half the squared norm of x's row; a block for each.
template <class T> __device__ void half_norms(const T *x, double *found, unsigned d) {
    x += (length_t)blockIdx.x * d;
    double sum = 0;
    for (unsigned c = threadIdx.x; c < d; c += blockDim.x) sum += (double)wide(x[c]) * wide(x[c]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) found[blockIdx.x] = .5 * sum;
}

// x = high + low, exactly: high keeps the eleven leading bits that a TF32 product reads, low the rest.
__device__ void split(const float *x, float *high, float *low, length_t n) {
    length_t i = (length_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    high[i] = __uint_as_float(__float_as_uint(x[i]) & 0xffffe000u);
    low[i] = x[i] - high[i];
}

// Half a squared distance below this share of the half norms is their difference after cancellation: it is taken anew.
static const double NEAR = 1. / 16.;

template <class T>
__device__ void similarities(float *tile, const T *x, const T *patterns, double half, const double *half_norms,
                             unsigned columns, unsigned d) {
    for (unsigned j = threadIdx.x; j < columns; j += blockDim.x) {
        double norms = half_norms[j] + half, s = tile[j] - norms;
        if (s > -NEAR * norms) {
            const T *xi = patterns + (length_t)j * d;
            s = 0;
            for (unsigned c = 0; c < d; c++) {
                double off = (double)wide(x[c]) - wide(xi[c]);
                s -= .5 * off * off;
            }
        }
        tile[j] = (float)s;
    }
}

// tile [queries, columns] becomes weights where something is retrieved; sums [queries, 5] = M, A, T, S, U; retrieved [queries, d] shrinks along.
// Pointers begin at the tile's own queries and patterns, whose first has index `first`. `kept` is what retrieved holds:
// 0 nothing is asked, 1 nothing yet, 2 what earlier tiles left.
template <class T>
__device__ void merge(float *tile, const T *queries, const T *patterns, const double *half_queries,
                      const double *half_patterns, const double *masses, const unsigned *left_out, double *sums,
                      float *retrieved, unsigned first, unsigned columns, unsigned d, double beta, unsigned distance,
                      unsigned weighted, unsigned kept) {
    unsigned row = blockIdx.x, out = left_out[row] - first; // below zero wraps around
    tile += (length_t)row * columns;
    sums += 5 * (length_t)row;
    if (distance) {
        similarities(tile, queries + (length_t)row * d, patterns, half_queries[row], half_patterns, columns, d);
    }
    // Each thread reads only what it wrote itself.
    double largest = -INFINITY, nan = 0;
    for (unsigned j = threadIdx.x; j < columns; j += blockDim.x) {
        double l = beta * tile[j];
        if (j == out) continue;
        if (l > largest) largest = l;
        if (l != l) nan = 1;
    }
    largest = block_max(largest);
    nan = block_max(nan);
    double before[5], reference;
    for (unsigned k = 0; k < 5; k++) before[k] = sums[k];
    reference = before[0] > largest ? before[0] : largest;
    bool is_empty = largest == -INFINITY && nan == 0;
    double mass = 0, total = 0, excess = 0, moment = 0;
    for (unsigned j = threadIdx.x; j < columns; j += blockDim.x) {
        if (is_empty || j == out) {
            if (kept) tile[j] = 0;
            continue;
        }
        double own = weighted ? masses[j] : 1., shifted = beta * tile[j] - reference;
        double value = own * expf((float)shifted);
        mass += own;
        excess += own * expm1f((float)shifted);
        total += value;
        // Weights that vanished add nothing, and -inf * 0 must not become NaN.
        if (value > 0 || value != value) moment += value * (shifted + (weighted ? log(own) : 0.));
        if (kept) tile[j] = (float)value;
    }
    mass = block_sum(mass);
    total = block_sum(total);
    excess = block_sum(excess);
    moment = block_sum(moment);
    if (is_empty) return;
    double shift = before[0] - reference, shrink = expm1(shift), factor = 1. + shrink;
    if (before[1] == 0) shift = shrink = factor = 0;
    if (threadIdx.x == 0) {
        sums[0] = reference;
        sums[1] = before[1] + mass;
        sums[2] = factor * before[2] + total;
        sums[3] = factor * before[3] + before[1] * shrink + excess;
        sums[4] = factor * (before[4] + before[2] * shift) + moment;
    }
    if (kept == 2 && factor != 1.)
        for (unsigned c = threadIdx.x; c < d; c += blockDim.x)
            retrieved[(length_t)row * d + c] = (float)(factor * retrieved[(length_t)row * d + c]);
}

} // namespace hopfield_energy

KERNEL(hopfield_energy_split_f32, const float *x, float *high, float *low, unsigned long long n) {
    hopfield_energy::split(x, high, low, n);
}

#define KERNELS(suffix, T)                                                                                             \
    KERNEL(hopfield_energy_half_norms_##suffix, const T *x, double *found, unsigned d) {                               \
        hopfield_energy::half_norms<T>(x, found, d);                                                                   \
    }                                                                                                                  \
    KERNEL(hopfield_energy_merge_##suffix, float *tile, const T *queries, const T *patterns,                           \
           const double *half_queries, const double *half_patterns, const double *masses, const unsigned *left_out,    \
           double *sums, float *retrieved, unsigned first, unsigned columns, unsigned d, double beta,                  \
           unsigned distance, unsigned weighted, unsigned kept) {                                                      \
        hopfield_energy::merge<T>(tile, queries, patterns, half_queries, half_patterns, masses, left_out, sums,        \
                                  retrieved, first, columns, d, beta, distance, weighted, kept);                       \
    }
FOR_EACH_TYPE(KERNELS)
#undef KERNELS
