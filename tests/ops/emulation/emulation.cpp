// The CUDA kernels, compiled for a CPU. The tests call the functions at the end.
#include "determinism.h"

#include "backward.cu"
#include "forward.cu"

using namespace ms_deform_attn;

extern "C" bool deterministic_algorithms_enabled() {
  return cuda::deterministic_algorithms_enabled();
}

extern "C" void reverse_blocks(bool reversed) { emulation::reversed = reversed; }

extern "C" const char* forward(int type, const cuda::Inputs* inputs, void* output, void* stream) {
  static std::string problem;
  problem = cuda::launch_forward(cuda::Type(type), *inputs, output, stream);
  return problem.c_str();
}

extern "C" const char* backward(int type, const cuda::Inputs* inputs,
                                const cuda::Gradients* gradients, const cuda::Workspace* workspace,
                                bool deterministic, void* stream) {
  static std::string problem;
  problem = cuda::launch_backward(cuda::Type(type), *inputs, *gradients, *workspace, deterministic,
                                  stream);
  return problem.c_str();
}
