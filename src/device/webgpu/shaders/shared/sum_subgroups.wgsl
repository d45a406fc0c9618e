// Sum over the threads of a workgroup by subgroups: two barriers instead of one per halving. Same interface as
// `sum_tree.wgsl`. The first lane of each subgroup stores its subgroup's sum, then every subgroup sums all of them.
//
// The second step strides by the number of active lanes and not by the builtin `subgroup_size`: Intel's drivers may
// report 32 where only 8 lanes run together (gpuweb #3950), and sums would be skipped.
alias Sums = array<vec4<f32>, SUMS>;

struct Thread {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

// WebGPU's smallest subgroups have four lanes, so the first lanes of two subgroups never share a place.
const PLACES_OF_SUBGROUPS = THREADS / 4u;
// WebGPU fills it with zeros before the kernel runs; places of no subgroup stay zero.
var<workgroup> partial: array<Sums, PLACES_OF_SUBGROUPS>;

// Call once per kernel, from all threads.
fn sum_over_workgroup(thread: Thread, own: Sums) -> Sums {
    // Before this, the threads of a subgroup may have left a loop at different times; a barrier brings them together
    // even where the driver does not.
    workgroupBarrier();
    let n_active = subgroupAdd(1u);
    var sums: Sums;
    // unroll
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = subgroupAdd(own[i]);
    }
    if thread.subgroup_lane == 0u {
        partial[thread.lane / 4u] = sums;
    }
    workgroupBarrier();
    var totals: Sums;
    for (var at = thread.subgroup_lane; at < PLACES_OF_SUBGROUPS; at += n_active) {
        // unroll
        for (var i = 0u; i < SUMS; i++) {
            totals[i] += partial[at][i];
        }
    }
    // unroll
    for (var i = 0u; i < SUMS; i++) {
        totals[i] = subgroupAdd(totals[i]);
    }
    return totals;
}
