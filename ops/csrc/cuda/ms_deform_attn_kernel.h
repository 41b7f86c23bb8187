// The launchers of the CUDA kernels. Includes nothing of torch and nothing of CUDA.
#pragma once

#include <string>

#include "../shape.h"

namespace ms_deform_attn::cuda {

// Levels travel as a kernel argument: no copy to the device, and the host need not wait.
constexpr int64_t kMaxLevels = 32;

// A row of channels then has less than 2^32 bytes, and samples can be counted in 32 bits.
constexpr int64_t kMaxChannels = int64_t(1) << 28;
constexpr int64_t kMaxSamples = int64_t(1) << 28;

struct Levels {
  Level level[kMaxLevels];
};

// The type of the value. The kernels compute in its wide type: double for double, else float.
enum class Type { kFloat, kDouble, kHalf, kBFloat16 };

// Numbers of the wide type or, if narrow, of the value's own 16-bit type.
struct Numbers {
  const void* data;
  bool narrow;
};

struct Results {
  void* data;
  bool narrow;
};

// All pointers are to contiguous device memory.
struct Inputs {
  Shape shape;
  Levels levels;
  const void* value;
  // 0: positions are locations and weights are weights. 2 or 4, the fused entry: positions are
  // offsets from points or boxes, weights are logits.
  int32_t reference_dims;
  Numbers references;
  Numbers positions;
  Numbers weights;
};

struct Gradients {
  const void* output;  // of the value's type, as is value
  void* value;
  Results references;
  Results positions;
  Results weights;
};

// Memory beside the results.
struct Workspace {
  // Zeros, as many as the value has numbers: 64-bit integers if deterministic, else of the wide
  // type, where the gradient of the value itself serves if it is wide.
  void* sums;
  // Two zeros of the wide type; only if deterministic.
  void* bounds;
  // Only for the fused entry, of the wide type: as many as there are weights, where the gradient of
  // the weights itself serves if it is wide; and num_heads times as many as there are references.
  void* weights;
  void* references;
};

// Both put the work on `stream`, a cudaStream_t of the current device, and return the error
// of the launch, or an empty string.
std::string launch_forward(Type type, const Inputs& inputs, void* output, void* stream);

// If deterministic, the gradient of the value does not depend on the order of the threads: it is
// summed up in 64-bit integers, in units of about 2^-62 of a bound on it. A gradient or weight
// that is NaN or infinite then makes all of the gradient of the value NaN.
std::string launch_backward(Type type, const Inputs& inputs, const Gradients& gradients,
                            const Workspace& workspace, bool deterministic, void* stream);

}  // namespace ms_deform_attn::cuda
