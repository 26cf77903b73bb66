"""The native half of the thread pool, as LLVM's assembly.

A region is published as (fn, ctx, n) and then a count of n chunks left, with release; whoever
lowers the count by one owns the next chunk. What a region is gets read only after a chunk of it has
been won, and a region lasts until all its chunks are done, so that nothing can change under a
reader; a count that comes back to an old value does no harm. The caller works like everybody else:
a worker that the system has put aside holds up nothing that it has not begun.

    state     low half: chunks left; high half: the epoch, one more for each region
    sleepers  workers that wait, or are about to, for another epoch
    done      chunks that workers have finished; `waiting`: the caller sleeps until there are more
    busy      1 while a region runs; a second caller, or a region inside a region, runs by itself

Sleeping loses no wake-up, because everything on that road is sequentially consistent: either the
caller sees the sleeper, or the sleeper sees the new epoch (and likewise for `waiting` and `done`).
"""

from __future__ import annotations

__all__ = ["source"]

FIELDS = {  # name: (offset, type); what is written together by one thread shares a line
    "state": (0, "i64"), "epoch": (4, "i32"),
    "sleepers": (128, "i32"),
    "done": (256, "i32"), "waiting": (260, "i32"),
    "fn": (384, "ptr"), "ctx": (392, "ptr"), "n": (400, "i32"),
    "busy": (512, "i32"),
    "threads": (640, "i32"), "spin": (644, "i32"), "started": (648, "i32"), "stop": (652, "i32"),
    "alive": (768, "i32"),
}  # fmt: skip
PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.isb(i32 15)",
    "arm64": "call void @llvm.aarch64.isb(i32 15)",
}
DECLARED = {
    "x86_64": "declare void @llvm.x86.sse2.pause()",
    "aarch64": "declare void @llvm.aarch64.isb(i32)",
    "arm64": "declare void @llvm.aarch64.isb(i32)",
}
FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}

ALONE = """
define internal void @alone(ptr %fn, ptr %ctx, i32 %n) {
entry:
  %some = icmp sgt i32 %n, 0
  br i1 %some, label %next, label %end
next:
  %i = phi i32 [ 0, %entry ], [ %j, %next ]
  call void %fn(ptr %ctx, i32 %i)
  %j = add i32 %i, 1
  %more = icmp slt i32 %j, %n
  br i1 %more, label %next, label %end
end:
  ret void
}
"""
ONLY_ALONE = """
define void @parallel(ptr %fn, ptr %ctx, i32 %n) {
entry:
  call void @alone(ptr %fn, ptr %ctx, i32 %n)
  ret void
}
"""
WAIT_FUTEX = """
declare i64 @syscall(i64, ...)

define internal void @wait(ptr %word, i32 %seen) {
entry:
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 128, i32 %seen,
                                    ptr null, ptr null, i64 0)
  ret void
}

define internal void @wake(ptr %word, i32 %n) {
entry:
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 129, i32 %n,
                                    ptr null, ptr null, i64 0)
  ret void
}

define internal void @prepare_waiting() {
  ret void
}
"""
WAIT_CONDITION = """
@lock = internal global [64 x i8] zeroinitializer, align 64
@condition = internal global [64 x i8] zeroinitializer, align 64
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)

define internal void @wait(ptr %word, i32 %seen) {
entry:
  %a = call i32 @pthread_mutex_lock(ptr @lock)
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %seen
  br i1 %same, label %sleep, label %end
sleep:
  %b = call i32 @pthread_cond_wait(ptr @condition, ptr @lock)
  br label %end
end:
  %c = call i32 @pthread_mutex_unlock(ptr @lock)
  ret void
}

define internal void @wake(ptr %word, i32 %n) {
entry:
  %a = call i32 @pthread_mutex_lock(ptr @lock)
  %b = call i32 @pthread_cond_broadcast(ptr @condition)
  %c = call i32 @pthread_mutex_unlock(ptr @lock)
  ret void
}

define internal void @prepare_waiting() {
entry:
  %a = call i32 @pthread_mutex_init(ptr @lock, ptr null)
  %b = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}
"""
SHARED = """
define internal ptr @worker(ptr %unused) {
entry:
  %limit = load atomic i32, ptr $spin monotonic, align 4
  br label %look
look:
  %k = phi i32 [ 0, %entry ], [ 0, %claim ], [ %k1, %pause ],
               [ 0, %ran ], [ 0, %tell ], [ 0, %woke ]
  %s = load atomic i64, ptr $state seq_cst, align 8
  %left = trunc i64 %s to i32
  %none = icmp eq i32 %left, 0
  br i1 %none, label %idle, label %claim
claim:
  %less = sub i64 %s, 1
  %swapped = cmpxchg weak ptr $state, i64 %s, i64 %less acq_rel monotonic, align 8
  %won = extractvalue { i64, i1 } %swapped, 1
  br i1 %won, label %ran, label %look
ran:
  %fn = load ptr, ptr $fn, align 8
  %ctx = load ptr, ptr $ctx, align 8
  %n = load i32, ptr $n, align 4
  %i = sub i32 %n, %left
  call void %fn(ptr %ctx, i32 %i)
  %d = atomicrmw add ptr $done, i32 1 seq_cst, align 4
  %w = load atomic i32, ptr $waiting seq_cst, align 4
  %quiet = icmp eq i32 %w, 0
  br i1 %quiet, label %look, label %tell
tell:
  call void @wake(ptr $done, i32 1)
  br label %look
idle:
  %tired = icmp sge i32 %k, %limit
  br i1 %tired, label %lie, label %pause
pause:
  $pause
  %k1 = add i32 %k, 1
  br label %look
lie:
  %a = atomicrmw add ptr $sleepers, i32 1 seq_cst, align 4
  %stop0 = load atomic i32, ptr $stop seq_cst, align 4
  %go0 = icmp eq i32 %stop0, 0
  br i1 %go0, label %sleep, label %stopped
sleep:
  %high = lshr i64 %s, 32
  %seen = trunc i64 %high to i32
  call void @wait(ptr $epoch, i32 %seen)
  %stop1 = load atomic i32, ptr $stop seq_cst, align 4
  %go1 = icmp eq i32 %stop1, 0
  br i1 %go1, label %woke, label %stopped
woke:
  %b = atomicrmw sub ptr $sleepers, i32 1 seq_cst, align 4
  br label %look
stopped:
  %c = atomicrmw sub ptr $sleepers, i32 1 seq_cst, align 4
  %e = atomicrmw sub ptr $alive, i32 1 seq_cst, align 4
  ret ptr null
}

declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setdetachstate(ptr, i32)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @sched_yield()

define internal void @start() noinline {
entry:
  %attr = alloca [128 x i8], align 16
  %all = alloca [128 x i8], align 16
  %old = alloca [128 x i8], align 16
  %id = alloca [16 x i8], align 16
  store i32 1, ptr $started, align 4
  %threads = load atomic i32, ptr $threads monotonic, align 4
  %r0 = call i32 @pthread_attr_init(ptr %attr)
  %r1 = call i32 @pthread_attr_setdetachstate(ptr %attr, i32 $detached)
  %r2 = call i32 @pthread_attr_setstacksize(ptr %attr, i64 8388608)
  %r3 = call i32 @sigfillset(ptr %all)
  $faults
  %r4 = call i32 @pthread_sigmask(i32 $setmask, ptr %all, ptr %old)
  br label %next
next:
  %i = phi i32 [ 1, %entry ], [ %j, %made ]
  %a = atomicrmw add ptr $alive, i32 1 seq_cst, align 4
  %failed = call i32 @pthread_create(ptr %id, ptr %attr, ptr @worker, ptr null)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %made, label %fewer
made:
  %j = add i32 %i, 1
  %more = icmp slt i32 %j, %threads
  br i1 %more, label %next, label %end
fewer:
  %b = atomicrmw sub ptr $alive, i32 1 seq_cst, align 4
  br label %end
end:
  %r5 = call i32 @pthread_sigmask(i32 $setmask, ptr %old, ptr null)
  %r6 = call i32 @pthread_attr_destroy(ptr %attr)
  ret void
}

define void @parallel(ptr %fn, ptr %ctx, i32 %n) {
entry:
  %several = icmp sgt i32 %n, 1
  br i1 %several, label %ask, label %by_itself
ask:
  %threads = load atomic i32, ptr $threads monotonic, align 4
  %company = icmp sgt i32 %threads, 1
  br i1 %company, label %enter, label %by_itself
enter:
  %taken = cmpxchg ptr $busy, i32 0, i32 1 acquire monotonic, align 4
  %mine0 = extractvalue { i32, i1 } %taken, 1
  br i1 %mine0, label %entered, label %by_itself
by_itself:
  call void @alone(ptr %fn, ptr %ctx, i32 %n)
  ret void
entered:
  %st = load i32, ptr $started, align 4
  %there = icmp ne i32 %st, 0
  br i1 %there, label %publish, label %begin
begin:
  call void @start()
  br label %publish
publish:
  store ptr %fn, ptr $fn, align 8
  store ptr %ctx, ptr $ctx, align 8
  store i32 %n, ptr $n, align 4
  store atomic i32 0, ptr $done monotonic, align 4
  %old = load atomic i64, ptr $state monotonic, align 8
  %cleared = and i64 %old, -4294967296
  %epoch = add i64 %cleared, 4294967296
  %n64 = zext i32 %n to i64
  %new = or i64 %epoch, %n64
  %was = atomicrmw xchg ptr $state, i64 %new seq_cst, align 8
  %asleep = load atomic i32, ptr $sleepers seq_cst, align 4
  %awake = icmp eq i32 %asleep, 0
  br i1 %awake, label %look, label %rouse
rouse:
  %others = sub i32 %n, 1
  call void @wake(ptr $epoch, i32 %others)
  br label %look
look:
  %need = phi i32 [ %n, %publish ], [ %n, %rouse ], [ %need, %claim ], [ %need1, %run ]
  %s = load atomic i64, ptr $state monotonic, align 8
  %left = trunc i64 %s to i32
  %none = icmp eq i32 %left, 0
  br i1 %none, label %join, label %claim
claim:
  %less = sub i64 %s, 1
  %swapped = cmpxchg weak ptr $state, i64 %s, i64 %less acq_rel monotonic, align 8
  %won = extractvalue { i64, i1 } %swapped, 1
  br i1 %won, label %run, label %look
run:
  %need1 = sub i32 %need, 1
  %i = sub i32 %n, %left
  call void %fn(ptr %ctx, i32 %i)
  br label %look
join:
  %k = phi i32 [ 0, %look ], [ %k1, %pause ], [ 0, %slept ]
  %d = load atomic i32, ptr $done acquire, align 4
  %all = icmp eq i32 %d, %need
  br i1 %all, label %leave, label %still
still:
  %limit = load atomic i32, ptr $spin monotonic, align 4
  %tired = icmp sge i32 %k, %limit
  br i1 %tired, label %lie, label %pause
pause:
  $pause
  %k1 = add i32 %k, 1
  br label %join
lie:
  store atomic i32 1, ptr $waiting seq_cst, align 4
  %d1 = load atomic i32, ptr $done seq_cst, align 4
  %all1 = icmp eq i32 %d1, %need
  br i1 %all1, label %slept, label %sleep
sleep:
  call void @wait(ptr $done, i32 %d1)
  br label %slept
slept:
  store atomic i32 0, ptr $waiting seq_cst, align 4
  br label %join
leave:
  store atomic i32 0, ptr $busy release, align 4
  ret void
}

define i32 @resize(i32 %n) {
entry:
  %taken = cmpxchg ptr $busy, i32 0, i32 1 acquire monotonic, align 4
  %mine = extractvalue { i32, i1 } %taken, 1
  br i1 %mine, label %empty, label %refused
refused:
  ret i32 0
empty:
  store atomic i32 1, ptr $stop seq_cst, align 4
  %old = load atomic i64, ptr $state monotonic, align 8
  %epoch = add i64 %old, 4294967296
  %was = atomicrmw xchg ptr $state, i64 %epoch seq_cst, align 8
  call void @wake(ptr $epoch, i32 2147483647)
  br label %look
look:
  %a = load atomic i32, ptr $alive acquire, align 4
  %gone = icmp eq i32 %a, 0
  br i1 %gone, label %set, label %again
again:
  %y = call i32 @sched_yield()
  br label %look
set:
  store atomic i32 0, ptr $stop seq_cst, align 4
  store atomic i32 %n, ptr $threads monotonic, align 4
  store i32 0, ptr $started, align 4
  store atomic i32 0, ptr $busy release, align 4
  ret i32 1
}

define void @reset() {
entry:
  %old = load atomic i64, ptr $state monotonic, align 8
  %none = and i64 %old, -4294967296
  store atomic i64 %none, ptr $state seq_cst, align 8
  store atomic i32 0, ptr $sleepers seq_cst, align 4
  store atomic i32 0, ptr $done seq_cst, align 4
  store atomic i32 0, ptr $waiting seq_cst, align 4
  store atomic i32 0, ptr $alive seq_cst, align 4
  store atomic i32 0, ptr $stop seq_cst, align 4
  store i32 0, ptr $started, align 4
  call void @prepare_waiting()
  store atomic i32 0, ptr $busy release, align 4
  ret void
}

define void @pauses(i32 %n) {
entry:
  br label %next
next:
  %i = phi i32 [ 0, %entry ], [ %j, %next ]
  %s = load atomic i64, ptr $state seq_cst, align 8
  $pause
  %j = add i32 %i, 1
  %more = icmp slt i32 %j, %n
  br i1 %more, label %next, label %end
end:
  ret void
}

define void @set_spin(i32 %n) {
entry:
  store atomic i32 %n, ptr $spin monotonic, align 4
  ret void
}

define i32 @alive() {
entry:
  %a = load atomic i32, ptr $alive seq_cst, align 4
  ret i32 %a
}
"""


def source(triple: str, waiting: str) -> str:
    """The assembly.

    Args:
        triple: LLVM's name of the machine.
        waiting: "futex" (Linux), "condition" (any POSIX system), or "none": no threads at all.
    """
    if waiting == "none":
        return ALONE + ONLY_ALONE
    architecture = triple.partition("-")[0]
    apple = "apple" in triple or "darwin" in triple
    faults = (4, 8, 10 if apple else 7, 11)  # a fault is its own thread's: never blocked
    words = {
        f"${name}": f"getelementptr (i8, ptr @control, i64 {offset})"
        for name, (offset, _) in FIELDS.items()
    }
    words |= {
        "$pause": PAUSE.get(architecture, ""),
        "$futex": str(FUTEX.get(architecture, 0)),
        "$detached": "2" if apple else "1",
        "$setmask": "3" if apple else "2",
        "$faults": "\n".join(
            f"  %f{n} = call i32 @sigdelset(ptr %all, i32 {n})" for n in faults
        ).strip(),
    }
    text = ALONE + (WAIT_FUTEX if waiting == "futex" else WAIT_CONDITION) + SHARED
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, words[word])
    head = "@control = internal global [896 x i8] zeroinitializer, align 128\n"
    return head + DECLARED.get(architecture, "") + text
