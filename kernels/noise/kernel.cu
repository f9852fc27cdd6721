// Standard normal noise: a thread makes the four numbers of one counter.
//
// The integers are Philox's, the same as on the host; the numbers are made in 64 bits and rounded once.
#include "shared.cuh"

namespace noise {

struct Words {
    unsigned c[4];
};

__device__ __forceinline__ Words philox(Words w, unsigned k0, unsigned k1) {
    for (unsigned round = 0; round < 10; round++) {
        length_t first = (length_t)0xD2511F53u * w.c[0], second = (length_t)0xCD9E8D57u * w.c[2];
        w = Words{{(unsigned)(second >> 32) ^ w.c[1] ^ k0, (unsigned)second, (unsigned)(first >> 32) ^ w.c[3] ^ k1,
                   (unsigned)first}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return w;
}

// Box & Muller's two numbers of two words.
__device__ __forceinline__ void pair(unsigned u, unsigned v, float *two) {
    double first = ((double)u + 1.) / 4294967296.; // (0, 1]
    double radius = sqrt(-2. * log(first)), sine, cosine;
    sincos((double)v / 4294967296. * 6.283185307179586, &sine, &cosine);
    two[0] = (float)(radius * cosine);
    two[1] = (float)(radius * sine);
}

// z [rows, each]; `examples` has the lower and the upper half of each row's.
__device__ void normal(float *z, const unsigned *examples, unsigned k0, unsigned k1, unsigned step, unsigned rows,
                       unsigned each) {
    unsigned blocks = each / 4 + (each % 4 != 0);
    length_t i = (length_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (length_t)rows * blocks) return;
    unsigned row = (unsigned)(i / blocks), block = (unsigned)(i % blocks);
    Words w = philox(Words{{block, step, examples[2 * row], examples[2 * row + 1]}}, k0, k1);
    float four[4];
    pair(w.c[0], w.c[1], four);
    pair(w.c[2], w.c[3], four + 2);
    float *own = z + (length_t)row * each + 4 * block;
    for (unsigned j = 0; j < 4 && 4 * block + j < each; j++) own[j] = four[j];
}

} // namespace noise

KERNEL(noise_normal_f32, float *z, const unsigned *examples, unsigned k0, unsigned k1, unsigned step, unsigned rows,
       unsigned each) {
    noise::normal(z, examples, k0, k1, step, rows, each);
}
