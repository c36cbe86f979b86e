"""A model of torch Inductor: which kernels it makes of a trace. `roofline.kernels.compiled` calls its stages in order.

1. Lowering (torch/_inductor/graph.py, ir.py, lowering.py). The result of a pointwise operator is an expression. Whoever uses
   it computes it once more from what it reads, until it is worth a buffer: a library call or the caller wants it, several
   use it and it reads much or is dear, or it has grown long. Reductions have a buffer always; a norm is a reduction and an
   expression that uses its result. `lowering` takes the operators one by one: `pointwise`, `reductions`, `concatenation` and
   `calls` hold a family each, and add to one `graph` of buffers and the kernels that make them, which `layouts` lays out.
2. Scheduling (torch/_inductor/scheduler.py, codegen/cpp.py), in `scheduling`. Kernels that share a buffer become one where
   their loops allow it and nothing in between has to run first, the pair with the most shared bytes first. What is produced
   and used inside one kernel moves no bytes.
3. `emission`: those groups, in an order in which they can run, as the records that the rest of the program knows.

`parts` holds the records that pass between them, `operators` what an operator tells by itself.

On a GPU kernels are fused by their number of elements (codegen/simd.py), since loops there can be reordered; a C++ kernel
takes only loops that agree one by one.

Batch norm in eval mode is such a pointwise operator: without `freezing`, which is off by default, Inductor folds it into
no convolution.
"""
