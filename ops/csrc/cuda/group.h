// A group of lanes of a warp works on one head of one query: each lane has its own channels, and
// locates some of the samples for the group.
#pragma once

#include <initializer_list>

#include "../sample.h"
#include "launch.h"
#include "vector.h"

namespace ms_deform_attn::cuda {

constexpr int kWarp = 32;
constexpr int kSamplesPerLane = 2;
constexpr int kTileWidth = 8;

// How the work is cut. A block has one head of kThreads / lanes queries.
struct Plan {
  int lanes;  // of a group, a power of two
  unsigned tiles;  // blocks for a head of an image
  // In channels.
  unsigned pixel_stride;
  int64_t image_stride;
  // The queries are the pixels of the levels, as in an encoder: a block takes a rectangle of them,
  // whose samples share most of their pixels. Only the order depends on it.
  bool over_pixels;
};

// Whether threads may load 16 bytes of channels at once.
template <typename T>
bool fits_vectors(const Shape& shape, std::initializer_list<const void*> pointers) {
  bool fits = shape.head_dims % (kVectorBytes / sizeof(T)) == 0;
  for (const void* pointer : pointers) {
    fits = fits && reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0;
  }
  return fits;
}

inline Plan plan_for(const Inputs& inputs, int channels_at_once) {
  const Shape& shape = inputs.shape;
  Plan plan{};
  plan.pixel_stride = unsigned(shape.num_heads * shape.head_dims);
  plan.image_stride = shape.num_value * shape.num_heads * shape.head_dims;
  plan.over_pixels = shape.num_queries == shape.num_value;
  plan.lanes = 1;
  while (plan.lanes < kWarp && plan.lanes * channels_at_once < shape.head_dims) plan.lanes *= 2;
  const int groups = kThreads / plan.lanes;

  int64_t end = 0, rectangles = 0;
  for (int64_t l = 0; l < shape.num_levels; ++l) {
    const Level& level = inputs.levels.level[l];
    plan.over_pixels = plan.over_pixels && level.start == end;
    end += int64_t(level.height) * level.width;
    rectangles += divide_up(level.width, kTileWidth) * divide_up(level.height, groups / kTileWidth);
  }
  plan.over_pixels = plan.over_pixels && end == shape.num_queries;
  plan.tiles = unsigned(plan.over_pixels ? rectangles : divide_up(shape.num_queries, groups));
  return plan;
}

struct Group {
  int lanes;
  int lane;
  int index;  // in the block
  int64_t image;
  int head;
  bool active;  // the group has a query; else it only keeps the warp together
  int64_t query;
  int64_t row;  // counts queries and heads
};

__device__ __forceinline__ Group find_group(const Inputs& inputs, const Plan& plan) {
  Group group;
  group.lanes = plan.lanes;
  group.lane = threadIdx.x % plan.lanes;
  group.index = threadIdx.x / plan.lanes;
  const unsigned num_heads = unsigned(inputs.shape.num_heads);
  unsigned tile = blockIdx.x % plan.tiles;
  group.head = int(blockIdx.x / plan.tiles % num_heads);
  group.image = blockIdx.x / plan.tiles / num_heads;

  const int groups = kThreads / plan.lanes;
  group.query = int64_t(tile) * groups + group.index;
  group.active = !plan.over_pixels && group.query < inputs.shape.num_queries;
  for (int l = 0; plan.over_pixels && l < int(inputs.shape.num_levels); ++l) {
    const Level& level = inputs.levels.level[l];
    const int tile_height = groups / kTileWidth;
    const unsigned across = unsigned(level.width + kTileWidth - 1) / kTileWidth;
    const unsigned down = unsigned(level.height + tile_height - 1) / tile_height;
    if (tile < across * down) {
      const int x = int(tile % across) * kTileWidth + group.index % kTileWidth;
      const int y = int(tile / across) * tile_height + group.index / kTileWidth;
      group.query = level.start + int64_t(y) * level.width + x;
      group.active = x < level.width && y < level.height;
      break;
    }
    tile -= across * down;
  }
  group.row = (group.image * inputs.shape.num_queries + group.query) * num_heads + group.head;
  return group;
}

// The same channels of a pixel that is not outside. In bytes, and with factors of 32 bits, the
// address takes one instruction.
template <typename T>
__device__ __forceinline__ T* at_pixel(T* channels, int32_t pixel, const Plan& plan) {
  const uint64_t bytes = uint64_t(uint32_t(pixel)) * (plan.pixel_stride * unsigned(sizeof(T)));
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(channels) + bytes);
}

// Each of the numbers becomes its sum over the lanes of the group.
template <typename... A>
__device__ __forceinline__ void sum_over(const Group& group, A&... numbers) {
  for (int step = group.lanes / 2; step > 0; step /= 2) {
    ((numbers += __shfl_xor_sync(0xffffffffu, numbers, step)), ...);
  }
}

// Weights from logits: exp(logit - largest) * scale. The unfused entry has weights as they are.
template <typename A>
struct Softmax {
  A largest;
  A scale;
};

template <typename T>
__device__ __forceinline__ Softmax<Wide<T>> softmax_of(const Inputs& inputs, const Group& group) {
  using A = Wide<T>;
  if (inputs.reference_dims == 0) return {0, 0};
  const int num_samples = int(inputs.shape.num_levels * inputs.shape.num_points);
  const int own_samples = group.active ? num_samples : 0;
  A largest = A(-INFINITY), sum = 0;
  for (int s = group.lane; s < own_samples; s += group.lanes) {
    largest = fmax(largest, read<T>(inputs.weights, group.row * num_samples + s));
  }
  for (int step = group.lanes / 2; step > 0; step /= 2) {
    largest = fmax(largest, __shfl_xor_sync(0xffffffffu, largest, step));
  }
  for (int s = group.lane; s < own_samples; s += group.lanes) {
    sum += exp(read<T>(inputs.weights, group.row * num_samples + s) - largest);
  }
  sum_over(group, sum);
  return {largest, 1 / sum};
}

template <typename T>
__device__ __forceinline__ Wide<T> weight_of(const Inputs& inputs, const Softmax<Wide<T>>& softmax,
                                             int64_t sample) {
  const Wide<T> number = read<T>(inputs.weights, sample);
  return inputs.reference_dims == 0 ? number : exp(number - softmax.largest) * softmax.scale;
}

// Sampling location = origin + position * step: the identity for the unfused entry, else an offset
// from a reference point or box.
template <typename A>
struct OffsetTransform {
  A origin[2];
  A step[2];
};

template <typename T>
__device__ __forceinline__ OffsetTransform<Wide<T>> offset_transform(const Inputs& inputs,
                                                                     const Group& group, int l) {
  using A = Wide<T>;
  if (inputs.reference_dims == 0) return {{0, 0}, {1, 1}};
  const int64_t first =
      ((group.image * inputs.shape.num_queries + group.query) * inputs.shape.num_levels + l) *
      inputs.reference_dims;
  const A x = read<T>(inputs.references, first), y = read<T>(inputs.references, first + 1);
  if (inputs.reference_dims == 2) {
    const Level& level = inputs.levels.level[l];
    return {{x, y}, {1 / A(level.width), 1 / A(level.height)}};
  }
  const A part = A(0.5) / A(inputs.shape.num_points);
  const A width = read<T>(inputs.references, first + 2);
  const A height = read<T>(inputs.references, first + 3);
  return {{x, y}, {width * part, height * part}};
}

template <typename A>
struct WeightedSample {
  Sample<A> sample;
  A weight;
};

// Sample s of the group's query and head; for s >= num_samples one that lies outside.
template <typename T>
__device__ __forceinline__ WeightedSample<Wide<T>> weighted_sample(
    const Inputs& inputs, const Group& group, const Softmax<Wide<T>>& softmax, int s) {
  const int num_samples = int(inputs.shape.num_levels * inputs.shape.num_points);
  if (!group.active || s >= num_samples) {
    return {{{kOutside, kOutside, kOutside, kOutside}, 0, 0}, 0};
  }
  const int l = s / int(inputs.shape.num_points);
  const int64_t i = group.row * num_samples + s;
  const OffsetTransform<Wide<T>> transform = offset_transform<T>(inputs, group, l);
  return {locate(inputs.levels.level[l],
                 transform.origin[0] + read<T>(inputs.positions, 2 * i) * transform.step[0],
                 transform.origin[1] + read<T>(inputs.positions, 2 * i + 1) * transform.step[1]),
          weight_of<T>(inputs, softmax, i)};
}

// The samples that a group's lanes exchange through shared memory, kSamplesPerLane each.
template <typename A>
struct SharedSamples {
  Vector<int32_t, 4> pixels[kThreads * kSamplesPerLane];
  Vector<A, 4> numbers[kThreads * kSamplesPerLane];

  // Groups start at different slots, which avoids bank conflicts.
  __device__ __forceinline__ static int slot(const Group& group, int s) {
    const int size = group.lanes * kSamplesPerLane;
    return group.index * size + ((s + group.index) & (size - 1));
  }
};

}  // namespace ms_deform_attn::cuda
