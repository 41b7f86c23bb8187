// The launchers of the CUDA kernels. Includes nothing of torch and nothing of CUDA.
#pragma once

#include "../shape.h"

namespace ms_deform_attn::cuda {

// Levels travel as a kernel argument: no copy to the device, and the host need not wait.
constexpr int64_t kMaxLevels = 32;

struct Levels {
  Level level[kMaxLevels];
};

// All pointers are to contiguous device memory; T is float or double.
template <typename T>
struct Inputs {
  Shape shape;
  Levels levels;
  const T* value;
  const T* locations;
  const T* weights;
};

template <typename T>
struct Gradients {
  const T* output;
  T* value;  // zeros at first
  T* locations;
  T* weights;
};

// Both put the work on `stream`, a cudaStream_t of the current device, and return what CUDA says is
// wrong with the launch, or nullptr.
template <typename T>
const char* launch_forward(const Inputs<T>& inputs, T* output, void* stream);

template <typename T>
const char* launch_backward(const Inputs<T>& inputs, const Gradients<T>& gradients, void* stream);

}  // namespace ms_deform_attn::cuda
