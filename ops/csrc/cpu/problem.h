// What a CPU kernel reads and writes. Includes nothing of torch.
#pragma once

#include "../shape.h"

// Where a file can be compiled for an instruction set that the rest is not.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define MSDA_X86_KERNELS
#endif

namespace ms_deform_attn::cpu {

// Half precision as it lies in memory.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type of all arithmetic on values of type V, and of everything beside the value.
template <typename V>
struct MathOf {
  using type = float;
};
template <>
struct MathOf<double> {
  using type = double;
};
template <typename V>
using Math = typename MathOf<V>::type;

struct ValueStrides {
  int64_t batch;
  int64_t pixel;
  int64_t head;
};

// With reference points, the coordinates are sampling offsets and the weights are logits; without,
// they are sampling locations and attention weights.
template <typename V>
struct Inputs {
  Shape shape;
  const Level* levels;
  const int64_t* order;  // of the queries of an image
  const V* value;
  ValueStrides strides;
  const Math<V>* coordinates;
  const Math<V>* weights;
  const Math<V>* reference_points;  // or nullptr
  int64_t reference_dims;           // 2 or 4
};

template <typename V>
struct Gradients {
  const V* output;
  Math<V>* value;  // zeros at first, with the strides of the value
  Math<V>* coordinates;
  Math<V>* weights;
  Math<V>* reference_points;  // (bs, num_queries, num_heads, num_levels, reference_dims): by head
};

// The kernels, once for each instruction set.
//
// forward writes the outputs of [begin, end), which counts ordered queries within heads within
// images.
// backward writes the gradients of [begin, end), which counts heads within images.
#define MSDA_DECLARE_KERNELS(instruction_set)                                                  \
  namespace instruction_set {                                                                  \
  template <typename V>                                                                        \
  void forward(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end);                \
  template <typename V>                                                                        \
  void backward(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin,         \
                int64_t end);                                                                  \
  }

MSDA_DECLARE_KERNELS(portable)
MSDA_DECLARE_KERNELS(avx2)
MSDA_DECLARE_KERNELS(avx512)

}  // namespace ms_deform_attn::cpu
