// A model's stages as the core runs them, and its paged KV cache.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batch.h"
#include "kernels.h"
#include "matrix.h"
#include "products.h"
#include "thread_pool.h"

namespace lepton {

using SharedMatrix = std::shared_ptr<const Matrix>;

struct NormWeights {
  std::vector<float> weight;
  float epsilon;
};

struct LinearWeights {
  SharedMatrix matrix;
  std::vector<float> bias;  // empty, or one value per output
};

struct RopeTable {
  std::vector<float> inverse_frequencies;  // [head_dim / 2]
  bool interleaved;
  float magnitude;
};

struct AttentionStage {
  NormWeights norm;
  LinearWeights query, key, value, output;
  size_t num_heads, num_kv_heads, head_dim;
  float scale;
  size_t rope;    // index of add_rope()
  size_t window;  // 0: unlimited
  std::optional<NormWeights> query_norm, key_norm, post_norm;
};

struct GatedMlpStage {
  NormWeights norm;
  LinearWeights gate, up, down;
  bool gelu;
  std::optional<NormWeights> post_norm;
};

// Stages are added once, in order, the head last, then forward() runs them any number of times. One
// caller at a time: a second one gets std::logic_error.
class Program {
 public:
  // `planes` of int8 activations, adaptive or two, in all products but the head's, which takes two;
  // `isa` empty for the machine's best.
  Program(std::shared_ptr<ThreadPool> pool, size_t hidden, size_t num_blocks, Planes planes,
          CacheType cache_type, const std::string& isa);
  ~Program();

  void set_embedding(SharedMatrix matrix, float scale);
  size_t add_rope(RopeTable rope);
  void add_attention(AttentionStage stage);
  void add_gated_mlp(GatedMlpStage stage);
  void set_head(NormWeights norm, LinearWeights output);

  size_t vocab_size() const;
  size_t num_blocks() const { return num_blocks_; }
  size_t bytes_per_block() const;
  // The cache, block after block, each with its keys and values of all layers.
  uint8_t* cache() const { return cache_.data(); }
  const char* isa() const { return kernels_.name; }

  // Writes logits [num_logits, vocab_size]; where the batch says that the largest suffice, others
  // may be the lowest finite float. Throws std::invalid_argument, before anything is
  // written to the cache, when the batch is inconsistent.
  void forward(const BatchView& batch, float* logits);

 private:
  struct Layer;
  struct Worker;
  struct Buffers;

  void place_caches();
  void embed(const BatchView& batch);
  void turn_ropes(const BatchView& batch);
  void run_attention(const Layer& layer, const BatchView& batch);
  void run_last_attention(const Layer& layer, const BatchView& batch);
  void reserve_heads(const AttentionStage& stage, size_t rows);
  void turn(const AttentionStage& stage, const std::optional<NormWeights>& norm, size_t row,
            float* head);
  void turn_queries(const AttentionStage& stage, size_t row);
  void store_keys(const Layer& layer, const BatchView& batch, size_t row);
  void attend(const Layer& layer, const BatchView& batch);
  void run_gated_mlp(const Layer& layer, size_t rows);
  void run_head(const BatchView& batch, float* logits);
  void multiply(const Rows& input, const QuantizedBuffer& quantized, size_t rows,
                std::initializer_list<Term> terms, bool accumulate);
  void add_post_norm(const NormWeights& norm, size_t rows);
  // To `normed`, and `quantize` says whether to `quantized` as well, which has room then.
  void normalize(const NormWeights& norm, const float* x, size_t rows, bool quantize);

  const std::shared_ptr<ThreadPool> pool_;
  const KernelTable& kernels_;
  const size_t hidden_;
  const size_t num_blocks_;
  const Planes planes_;
  const CacheType cache_type_;
  AlignedBuffer cache_;  // made with the head, once all layers are known
  SharedMatrix embedding_;
  float embedding_scale_ = 1.0f;
  std::vector<RopeTable> ropes_;
  std::vector<std::unique_ptr<Layer>> layers_;
  const Layer* last_attention_ = nullptr;
  NormWeights head_norm_;
  LinearWeights head_;
  std::unique_ptr<Buffers> buffers_;
  std::atomic_flag busy_;
};

}  // namespace lepton
