// The kernels of the best instruction set of this machine.
#pragma once

#include <cstdlib>
#include <cstring>

#include "problem.h"

namespace ms_deform_attn::cpu {

enum class InstructionSet { kPortable, kAvx2, kAvx512 };

// As for PyTorch's own kernels, the environment can ask for less than the machine has.
inline InstructionSet best_instruction_set() {
#ifdef MSDA_X86_KERNELS
  const char* capability = std::getenv("ATEN_CPU_CAPABILITY");
  const auto requested = [&](const char* name) {
    return capability != nullptr && std::strcmp(capability, name) == 0;
  };
  // All that have AVX2 and FMA convert half precision too.
  if (requested("default") || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return InstructionSet::kPortable;
  }
  if (requested("avx2") || !__builtin_cpu_supports("avx512f") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl")) {
    return InstructionSet::kAvx2;
  }
  return InstructionSet::kAvx512;
#else
  return InstructionSet::kPortable;
#endif
}

// Returns the call of the best kernel.
#ifdef MSDA_X86_KERNELS
#define MSDA_BEST(call)                                          \
  switch (instruction_set()) {                                   \
    case InstructionSet::kAvx512: return avx512::call;           \
    case InstructionSet::kAvx2: return avx2::call;               \
    default: return portable::call;                              \
  }
#else
#define MSDA_BEST(call) return portable::call;
#endif

inline InstructionSet instruction_set() {
  static const InstructionSet best = best_instruction_set();
  return best;
}

template <typename V>
void forward(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end) {
  MSDA_BEST(forward<V>(inputs, output, begin, end))
}

template <typename V>
void backward(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin, int64_t end) {
  MSDA_BEST(backward<V>(inputs, gradients, begin, end))
}

}  // namespace ms_deform_attn::cpu
