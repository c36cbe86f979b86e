"""Operators that compute nothing: views, copies, fills, gathers, questions. Listed by name, so that zero is never a guess."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Rule, add, first, rule, total
from roofline.records import TensorSpec

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

# They answer from metadata, reserve memory or look at a tensor in another way: nothing runs on the device.
HOST = """
view view_as _unsafe_view _reshape_alias expand expand_as t transpose permute squeeze unsqueeze select slice narrow diagonal
unbind split split_with_sizes chunk tensor_split hsplit vsplit dsplit unsafe_split unsafe_split_with_sizes unsafe_chunk
unfold as_strided detach alias lift lift_fresh swapaxes swapdims movedim moveaxis adjoint mT mH numpy_T matrix_H
view_as_real view_as_complex broadcast_to broadcast_tensors unflatten linalg_diagonal values indices _values _indices
crow_indices col_indices slice_inverse atleast_1d atleast_2d atleast_3d conj is_same_size is_nonzero item
_local_scalar_dense size stride numel sym_size sym_stride sym_numel sym_storage_offset sym_is_contiguous dim is_contiguous
storage_offset is_complex is_floating_point is_signed is_pinned is_set_to result_type can_cast promote_types _assert_async
_assert_scalar _assert_tensor_metadata _functional_assert_async _functional_assert_scalar sym_constrain_range
sym_constrain_range_for_size _functional_sym_constrain_range _functional_sym_constrain_range_for_size
_functional_sym_constrain_range_for_size _make_dep_token _has_same_storage_numel _version _has_compatible_shallow_copy_type
data set set_data retain_grad retains_grad output_nr is_leaf record_stream _debug_has_internal_overlap empty empty_like
empty_strided new_empty new_empty_strided empty_permuted _efficientzerotensor resize resize_as _resize_output
_empty_affine_quantized _empty_per_channel_affine_quantized empty_quantized q_scale q_zero_point q_per_channel_scales
q_per_channel_zero_points q_per_channel_axis qscheme is_inference _nested_tensor_size _nested_tensor_strides
_nested_get_offsets _nested_get_lengths _nested_get_values _nested_get_jagged_dummy _nested_get_ragged_idx
_nested_get_min_seqlen _nested_get_max_seqlen _nested_view_from_buffer _nested_view_from_jagged element_size is_coalesced
_coalesced _dimI _dimV _nnz sparse_dim dense_dim _cudnn_init_dropout_state _use_cudnn_ctc_loss _use_miopen_ctc_loss
cudnn_is_acceptable _nnpack_available _infer_size broadcast_shapes _shape_as_tensor get_device is_neg is_conj _is_zerotensor
_fw_primal _make_dual _unpack_dual manual_seed seed initial_seed _print _get_tracing_state is_autocast_enabled
_linalg_check_errors _validate_compressed_sparse_indices _validate_sparse_coo_tensor_args _validate_sparse_csr_tensor_args
sparse_resize sparse_resize_and_clear prims.collapse_view prims.split_dim prims.squeeze prims.transpose prims.view_of
prims.view_of_dtype prims.as_strided prims.empty prims.empty_strided prims.empty_permuted prims.item prims._make_token
prims._sink_tokens prims.slice prims.conj prims.imag prims.real inductor._alloc_from_pool inductor._reinterpret_tensor
inductor.resize_storage_bytes_ profiler._record_function_enter profiler._record_function_enter_new
profiler._record_function_exit quantized.conv2d_stride quantized.conv2d_padding quantized.conv2d_dilation
quantized.conv2d_groups quantized.conv2d_unpack quantized.conv2d_unpack_sizes quantized.linear_unpack quantized.conv_unpack
mkldnn._nbytes
"""

# Bytes are moved or set: copies, casts, layout changes, constants.
LAYOUT = """
copy copy_ clone _copy_from _copy_from_and_resize _to_copy to contiguous reshape reshape_as flatten ravel type_as cat concat
concatenate stack hstack vstack dstack column_stack row_stack _stack _chunk_cat block_diag repeat tile repeat_interleave
roll flip fliplr flipud rot90 constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d _pad_circular _pad_enum tril triu tril_indices triu_indices diag diag_embed diagflat
pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle zeros zeros_like new_zeros ones ones_like new_ones full
full_like new_full fill zero fill_diagonal eye arange range linspace logspace scalar_tensor tensor randperm rand rand_like
randn randn_like randint randint_like normal normal_functional uniform random exponential geometric cauchy log_normal
poisson multinomial binomial _standard_gamma _sample_dirichlet
bartlett_window blackman_window hamming_window hann_window kaiser_window _sobol_engine_draw fft_fftshift
fft_ifftshift fft_fftfreq fft_rfftfreq vander linalg_vander select_backward slice_backward diagonal_backward unfold_backward
select_scatter slice_scatter diagonal_scatter as_strided_scatter cpu cuda pin_memory _pin_memory to_dense _to_dense
to_mkldnn to_mkldnn_backward to_dense_backward mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight _mkldnn_reshape
_mkldnn_transpose int_repr _make_per_tensor_quantized_tensor _make_per_channel_quantized_tensor as_tensor _lazy_clone
pad_sequence _pack_padded_sequence _pack_sequence _pad_packed_sequence _pack_padded_sequence_backward to_padded_tensor
nested_to_padded_tensor _nested_from_padded _nested_tensor_from_mask _nested_tensor_from_tensor_list
_nested_tensor_from_mask_left_aligned _padded_dense_to_jagged_forward _jagged_to_padded_dense_forward sparse_coo_tensor
_sparse_coo_tensor_unsafe sparse_csr_tensor to_sparse _to_sparse _to_sparse_csr to_sparse_csr _coalesce coalesce sparse_mask
_sparse_broadcast_to _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short
_autocast_to_full_precision _autocast_to_reduced_precision _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu
_dyn_quant_pack_4bit_weight _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo unflatten_dense_tensors
flatten_dense_tensors _reshape_from_tensor _fill_mem_eff_dropout_mask_ _philox_uniform _philox_normal _philox_randint
rngprims.philox_rand _no_grad_fill _no_grad_zero _no_grad_normal _no_grad_uniform prims.cat prims.clone prims.collapse
prims.empty_like prims.full prims.full_like prims.normal prims.uniform prims.reshape prims.rev prims.resize
prims.scalar_tensor prims.as_strided_scatter _cudnn_rnn_flatten_weight quantized.cat quantized.dropout
quantized.conv2d_prepack quantized.linear_prepack quantized.conv1d_prepack quantized.conv3d_prepack
quantized.linear_prepack_fp16 mkldnn._reorder_linear_weight mkldnn._reorder_convolution_weight
mkldnn._reorder_convolution_transpose_weight mkl._mkl_reorder_linear_weight onednn.qlinear_prepack onednn.qconv_prepack
"""

# Elements are picked or placed by index.
GATHER = """
embedding index _unsafe_index index_select gather take take_along_dim masked_select scatter index_put index_copy index_fill
_unsafe_index_put _index_put_impl put masked_scatter _unsafe_masked_index one_hot index_select_backward nonzero
nonzero_numpy nonzero_static argwhere masked_select_backward value_selecting_reduction_backward _gather_sparse_backward
gather_backward _sparse_mask_projection
"""

# Between machines.
COMMUNICATION = """
all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out all_to_all_single broadcast broadcast_
batch_p2p_ops wait_tensor wait_tensors irecv isend _wrap_tensor_autograd
"""


def _nothing(*_: Any, **__: Any) -> int:
    return 0


add(dict.fromkeys(HOST.split()), Rule(_nothing, "host"))
add(dict.fromkeys(LAYOUT.split()), Rule(_nothing, "layout"))
add(dict.fromkeys(GATHER.split()), Rule(_nothing, "gather"))
add([f"_c10d_functional.{n}" for n in COMMUNICATION.split()], Rule(_nothing, "other"))


@rule(
    "_c10d_functional.all_reduce",
    "_c10d_functional.all_reduce_",
    "_c10d_functional.all_reduce_coalesced",
    "_c10d_functional.all_reduce_coalesced_",
    "_c10d_functional.reduce_scatter_tensor",
    "_c10d_functional.reduce_scatter_tensor_coalesced",
    klass="other",
)
def all_reduce(input: T | list[T], *_: Any, out: Out, **__: Any) -> int:
    # one operation per element (each machine's share of the sum)
    return total(input)


# --- indices with arithmetic


@rule("scatter_add", "index_add", "scatter_reduce", "index_reduce", klass="gather")
def scatter_add(self: T, dim: int, index: T, src: Any, *args: Any, alpha: float = 1, out: Out, **_: Any) -> int:
    # every source element is added where its index points
    n = total(src) or index.numel
    return n * (1 + (alpha != 1))


@rule("_unsafe_masked_index_put_accumulate", klass="gather")
def masked_accumulate(self: T, mask: T, indices: Any, values: T, *, out: Out, **_: Any) -> int:
    return total(values)


@rule("embedding_dense_backward", "embedding_backward", "embedding_sparse_backward", klass="gather")
def embedding_backward(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, e] added to the rows of [v, e]
    return grad_output.numel


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only", klass="gather")
def embedding_bag(
    weight: T,
    indices: T,
    offsets: T | None = None,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: T | None = None,
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    # [v, e], [k] -> [bags, e]: each row is added (mode 0, 1) or compared (2), weighted rows multiplied first; a mean divides
    rows = indices.numel * weight.shape[-1]
    return rows * (1 + (per_sample_weights is not None)) + (first(out).numel if mode == 1 else 0)


@rule("_embedding_bag_backward", "_embedding_bag_dense_backward", "_embedding_bag_sparse_backward", klass="gather")
def embedding_bag_backward(grad: T, indices: T, *_: Any, out: Out, **__: Any) -> int:
    # [bags, e]: each index adds its bag's row
    return indices.numel * grad.shape[-1]


@rule("_embedding_bag_per_sample_weights_backward", klass="gather")
def per_sample_weights_backward(grad: T, weight: T, indices: T, *_: Any, out: Out, **__: Any) -> int:
    # a dot product of e for each index
    return 2 * indices.numel * grad.shape[-1]


@rule("searchsorted", "bucketize", klass="gather")
def searchsorted(*args: Any, out: Out, **_: Any) -> int:
    # a binary search for each element of the result
    tensors = [a for a in args if isinstance(a, T)]
    edges = max(
        1,
        (tensors[0] if len(args) and isinstance(args[0], T) else tensors[-1]).shape[-1] if tensors and tensors[0].shape else 1,
    )
    return first(out).numel * max(1, edges.bit_length())


@rule(
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "replication_pad1d_backward",
    "replication_pad2d_backward",
    "replication_pad3d_backward",
    klass="gather",
)
def pad_backward(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
    # each gradient is added where its element came from
    return grad_output.numel
