// The device that emulated.h stands in for, and all kernels compiled for it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <setjmp.h>
#include <string>
#include <ucontext.h>
#include <vector>

#include "emulated.h"

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

struct Kernel {
    std::string kinds;
    Call call;
    void (*kernel)();
};

static std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

void enter(const char *name, const char *kinds, Call call, void (*kernel)()) {
    kernels()[name] = Kernel{kinds, call, kernel};
}

static void stop(const char *why) {
    fprintf(stderr, "emulated device: %s\n", why);
    abort();
}

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    ucontext_t context; // how it begins
    jmp_buf place;      // where it waits
    bool has_begun;
    State state;
    unsigned long long slot[4]; // what it shows its warp
};

static const size_t STACK = 64 << 10;
static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static std::map<const char *, std::vector<char>> arena;
static jmp_buf scheduler;
static unsigned current;
static Kernel *running;
static const unsigned long long *arguments;

static void wait(State state) {
    fibers[current].state = state;
    if (!_setjmp(fibers[current].place)) _longjmp(scheduler, 1);
}

// Runs the current fiber until it waits or is done.
static __attribute__((noinline)) void resume() {
    Fiber &fiber = fibers[current];
    if (_setjmp(scheduler)) return;
    if (fiber.has_begun) _longjmp(fiber.place, 1);
    fiber.has_begun = true;
    setcontext(&fiber.context);
}

void block_barrier() { wait(AT_BLOCK); }
void warp_barrier() { wait(AT_WARP); }
void *slot(unsigned thread) { return fibers[thread].slot; }

void *shared(const char *key, size_t bytes) {
    std::vector<char> &memory = arena[key];
    if (memory.size() != bytes) memory.assign(bytes, (char)0xff);
    return memory.data();
}

static void body() {
    running->call(running->kernel, arguments);
    fibers[current].state = DONE;
    _longjmp(scheduler, 1);
}

// Lets go whoever has been waited for by all: warps first, then the block.
static void release(unsigned threads) {
    bool all_at_block = true;
    for (unsigned warp = 0; warp < threads; warp += 32) {
        unsigned last = std::min(warp + 32, threads), counts[4] = {0, 0, 0, 0};
        for (unsigned t = warp; t < last; t++) counts[fibers[t].state]++;
        if (counts[AT_WARP] && counts[AT_BLOCK]) stop("half a warp waits for the warp, half for the block");
        if (counts[AT_WARP] && counts[DONE]) stop("a warp waits for threads that have returned");
        if (counts[AT_WARP]) {
            all_at_block = false;
            for (unsigned t = warp; t < last; t++) fibers[t].state = READY;
        }
    }
    if (!all_at_block) return;
    for (unsigned t = 0; t < threads; t++) {
        if (fibers[t].state == DONE) stop("a block waits for threads that have returned");
        fibers[t].state = READY;
    }
}

static void run_block(unsigned threads, const std::vector<unsigned> &order) {
    for (auto &memory : arena) std::fill(memory.second.begin(), memory.second.end(), (char)0xff);
    for (unsigned t = 0; t < threads; t++) {
        Fiber &fiber = fibers[t];
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = &stacks[t * STACK];
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, body, 0);
        fiber.state = READY;
        fiber.has_begun = false;
    }
    for (;;) {
        for (unsigned t : order) {
            if (fibers[t].state != READY) continue;
            current = t;
            threadIdx = Index{t, 0, 0};
            resume();
        }
        bool is_done = true;
        for (unsigned t = 0; t < threads; t++) is_done = is_done && fibers[t].state == DONE;
        if (is_done) return;
        release(threads);
    }
}

static std::vector<unsigned> order_of(unsigned threads, unsigned order) {
    std::vector<unsigned> found(threads);
    for (unsigned t = 0; t < threads; t++) found[t] = order == 1 ? threads - 1 - t : t;
    // Far from any order that a programmer has in mind, yet the same each time.
    if (order == 2)
        std::sort(found.begin(), found.end(), [](unsigned a, unsigned b) {
            return std::make_pair(a * 2654435761u, a) < std::make_pair(b * 2654435761u, b);
        });
    return found;
}

} // namespace emulated

// 0 when it ran, 1 when there is no such kernel, 2 when its parameters are of other kinds. Not to be called twice at once.
extern "C" int lethe_emulated_launch(const char *name, const char *kinds, const unsigned *grid, unsigned order,
                                     const unsigned long long *words) {
    using namespace emulated;
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (found->second.kinds != kinds) return 2;
    running = &found->second;
    arguments = words;
    unsigned threads = grid[2];
    if (fibers.size() < threads) {
        fibers.resize(threads);
        stacks.resize(threads * STACK);
    }
    gridDim = Index{grid[0], grid[1], 1};
    blockDim = Index{threads, 1, 1};
    std::vector<unsigned> ordered = order_of(threads, order);
    for (unsigned y = 0; y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
            // Blocks run in any order as well.
            blockIdx = order == 1 ? Index{grid[0] - 1 - x, grid[1] - 1 - y, 0} : Index{x, y, 0};
            run_block(threads, ordered);
        }
    return 0;
}
