// An encoder's stages as the core runs them, on whole texts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dense.h"
#include "encoder_kernels.h"
#include "encoder_rope.h"
#include "encoder_workspace.h"
#include "matrix.h"
#include "thread_pool.h"

namespace lepton {

struct EncoderNorm {
  std::vector<float> weight;
  std::vector<float> bias;  // empty for a root mean square norm
  float epsilon;
};

struct DenseLinear {
  std::shared_ptr<const DenseMatrix> matrix;
  std::vector<float> bias;  // empty, or one value per output
};

// Learned vectors [rows, hidden].
struct EncoderTable {
  std::vector<float> values;
};

struct EncoderEmbedding {
  // One of the two, [vocabulary, hidden].
  std::shared_ptr<const VectorTable> table;
  std::shared_ptr<const Matrix> matrix;
  float scale;
  EncoderTable positions;  // empty: none
  size_t position_offset;
  EncoderTable kinds;  // empty: none
  std::optional<EncoderNorm> norm;

  size_t vocabulary() const { return table ? table->rows() : matrix->rows(); }
  size_t hidden() const { return table ? table->columns() : matrix->columns(); }
};

struct EncoderAttentionStage {
  std::optional<EncoderNorm> norm;
  DenseLinear joined;  // queries, keys and values, one after the other
  DenseLinear output;
  size_t num_heads, num_kv_heads, head_dim;
  float scale;
  bool causal;
  size_t window;  // 0: unlimited
  std::optional<EncoderRope> rope;
  std::optional<EncoderNorm> query_norm, key_norm, post_norm, residual_norm;
};

struct EncoderMlpStage {
  std::optional<EncoderNorm> norm;
  DenseLinear up;  // where `gated`: the gate's outputs, then those of the way up
  DenseLinear down;
  Activation activation;
  bool gated;
  std::optional<EncoderNorm> post_norm, residual_norm;
};

// Whole texts, end to end. See EncoderBatch in executors/encoder_base.py.
struct TextBatch {
  const int32_t* token_ids;
  size_t rows;
  const int32_t* row_starts;
  size_t texts;
  const int32_t* kinds;        // or null
  const int32_t* pool_starts;  // or null
};

enum class TextPooling { kNone, kMean, kFirst, kLast, kWeighted, kLargest };

// Stages are added once, in order, then forward() runs them any number of times. One caller at a
// time: a second one gets std::logic_error.
class EncoderProgram {
 public:
  // `isa` empty for the machine's best. Throws std::invalid_argument when the machine cannot
  // multiply `type`.
  EncoderProgram(std::shared_ptr<ThreadPool> pool, size_t hidden, DenseType type,
                 const std::string& isa);
  ~EncoderProgram();

  void set_embedding(EncoderEmbedding embedding);
  void add_attention(EncoderAttentionStage stage);
  void add_mlp(EncoderMlpStage stage);
  void set_final_norm(EncoderNorm norm);

  size_t hidden() const { return hidden_; }
  DenseType type() const { return type_; }
  const char* isa() const { return kernels_.name; }

  // Writes states [rows, hidden], or [texts, hidden] when they are pooled. Throws
  // std::invalid_argument when the batch is inconsistent, std::bad_alloc when there is too little
  // memory to work in.
  void forward(const TextBatch& batch, TextPooling pooling, float* out);

 private:
  struct Layer;
  struct Group;
  struct Team;

  size_t rope_table(const EncoderRope& rope);
  void validate(const TextBatch& batch) const;
  std::vector<Group> groups(const TextBatch& batch, size_t most_tokens) const;
  void make_room(const TextBatch& batch, const std::vector<Group>& groups, size_t workspaces);
  void run(const Group& group, const TextBatch& batch, TextPooling pooling, EncoderWorkspace& work,
           const Team& team, float* out) const;
  const std::optional<EncoderNorm>* norm_before(size_t layer) const;

  // In encoder_stages.cpp. None of them allocates.
  void embed(const Group& group, const TextBatch& batch, EncoderWorkspace& work,
             const Team& team) const;
  void advance(const std::optional<EncoderNorm>* post, const std::optional<EncoderNorm>* residual,
               const std::optional<EncoderNorm>* next, bool add, size_t rows,
               EncoderWorkspace& work, const Team& team) const;
  void attend(const Layer& layer, const Group& group, const TextBatch& batch,
              EncoderWorkspace& work, const Team& team) const;
  void rotate(const Layer& layer, const Group& group, const TextBatch& batch,
              EncoderWorkspace& work, const Team& team) const;
  void mix(const Layer& layer, size_t rows, EncoderWorkspace& work, const Team& team) const;
  void multiply(const DenseLinear& linear, const ByteRows& operand, size_t rows,
                Activation activation, const ByteRows& output, bool half_output,
                const EncoderWorkspace& work, const Team& team) const;
  void emit(const float* x, size_t row, size_t count, EncoderWorkspace& work) const;
  void pool(const Group& group, const TextBatch& batch, TextPooling pooling,
            const EncoderWorkspace& work, float* out) const;

  const std::shared_ptr<ThreadPool> threads_;
  const size_t hidden_;
  const DenseType type_;
  const EncoderKernels& kernels_;
  const size_t operand_element_;  // bytes
  const bool half_;               // whether what lies between products is bf16
  EncoderEmbedding embedding_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::optional<EncoderNorm> final_norm_;
  EncoderRoom most_;  // of all layers
  std::vector<EncoderRopeTable> rope_tables_;
  std::vector<EncoderWorkspace> workspaces_;  // one per thread
  std::vector<EncoderScratch> scratch_;       // one per thread
  std::atomic_flag busy_;
};

}  // namespace lepton
