// The few CUDA builtins that the kernels use, on a CPU: the threads of a warp are fibers that take
// turns, each up to the next barrier. A barrier that not all of them reach ends the process, as
// does an address that is not aligned.
#pragma once

#include <math.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <vector>

#define __CUDACC__
#define __CUDA_ARCH_LIST__ 900
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after the other

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned size) : x(size) {}
};

struct alignas(16) int4 {
  int x, y, z, w;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulation {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStack);
  bool done;
  double exchanged;  // holds a float or a double exactly
};

struct Block {
  std::vector<Fiber> fibers;
  std::function<void()> kernel;
  ucontext_t scheduler;
  Fiber* current = nullptr;

  void wait() { swapcontext(&current->context, &scheduler); }

  void run();
};

inline Block block;
inline bool reversed = false;  // the last block runs first

inline void start() {
  block.kernel();
  block.current->done = true;
}

inline void Block::run() {
  fibers.resize(blockDim.x);
  for (unsigned i = 0; i < blockDim.x; ++i) {
    Fiber& fiber = fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, start, 0);
    fiber.done = false;
  }
  for (unsigned first = 0; first < blockDim.x; first += kWarp) {
    for (unsigned finished = 0; finished != kWarp;) {
      finished = 0;
      for (unsigned i = first; i < first + kWarp; ++i) {
        current = &fibers[i];
        threadIdx.x = i;
        swapcontext(&scheduler, &current->context);
        finished += current->done;
      }
      if (finished % kWarp != 0) {
        std::fprintf(stderr, "a part of a warp waits at a barrier\n");
        std::abort();
      }
    }
  }
}

}  // namespace emulation

inline void __syncwarp() { emulation::block.wait(); }

template <typename T>
T __shfl_xor_sync(unsigned, T number, int with) {
  emulation::Fiber& self = *emulation::block.current;
  self.exchanged = number;
  __syncwarp();
  const T received = T(emulation::block.fibers[threadIdx.x ^ unsigned(with)].exchanged);
  __syncwarp();
  return received;
}

template <typename T>
T __ldg(const T* address) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(T) != 0) std::abort();
  return *address;
}

template <typename T>
T atomicAdd(T* address, T amount) {
  const T old = *address;
  *address += amount;
  return old;
}

inline float4 atomicAdd(float4* address, float4 amount) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(float4) != 0) std::abort();
  const float4 old = *address;
  *address = {old.x + amount.x, old.y + amount.y, old.z + amount.z, old.w + amount.w};
  return old;
}

template <typename T>
T atomicMax(T* address, T number) {
  const T old = *address;
  if (number > old) *address = number;
  return old;
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };

struct cudaDeviceProp {
  char name[16] = "a CPU";
  int major = 0, minor = 0;
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "invalid argument"; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int) { return cudaSuccess; }

// A stream that is not null stands for a broken device.
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (config->stream != nullptr || config->blockDim.x % emulation::kWarp != 0) {
    return cudaErrorInvalidValue;
  }
  emulation::block.kernel = [&] { kernel(arguments...); };
  blockDim = config->blockDim;
  gridDim = config->gridDim;
  for (unsigned i = 0; i < gridDim.x; ++i) {
    blockIdx.x = emulation::reversed ? gridDim.x - 1 - i : i;
    emulation::block.run();
  }
  return cudaSuccess;
}
