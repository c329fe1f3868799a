"""Measure generated-weight products against dense ones: python scripts/bench_kernels.py [--device cuda]

Appends one line per size and batch to results/kernels.jsonl. Variants take turns, so that whatever else the
machine does falls on all of them alike. Where there is AVX-512, the AVX2 path is measured too. To see PyTorch
as it runs without AVX-512, set ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""
import argparse, ctypes, itertools, os, platform, statistics, sys, tempfile, time

# PyTorch's threads must not spin through the next variant's turn. It has to be set before PyTorch is loaded
os.environ.setdefault('GOMP_SPINCOUNT', '10000')
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import torch
from torch.nn.functional import linear
from train_ticket.core import append_record, hardware, versions
from train_ticket.kernels import Generator, backends, compile_c, mask_stride, masked_linear
from train_ticket.kernels_c import c_library, linear as linear_c

# 512-bit instructions of the AVX-512 path for 2048 weights: generator and transposition; shifts (once for
# up to four inputs); look-ups and additions of an input
VECTOR_OPERATIONS = 126, 56, 128
OPERATIONS_A_CYCLE = 2       # Zen 4 has four 256-bit vector ports
CUDA_INSTRUCTIONS = 1.03     # thread instructions per weight of matvec_int8: logic .5, Philox .35, others

CLOCK = r'''
#include <time.h>
double cycles_a_nanosecond(void) {   /* a chain of additions takes a cycle each */
    struct timespec a, b;
    unsigned long v = 0;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < 100000000; i++) __asm__ volatile("add $1, %0" : "+r"(v));
    clock_gettime(CLOCK_MONOTONIC, &b);
    return 1e8/((b.tv_sec - a.tv_sec)*1e9 + (b.tv_nsec - a.tv_nsec));
}
'''


def clock(): # GHz while the machine computes, or None where it can't be measured
    if platform.machine() != 'x86_64' or c_library() is None: return None
    with tempfile.TemporaryDirectory() as folder:
        path = compile_c(CLOCK, os.environ.get('CC', 'cc'), ('-O2', '-shared', '-fPIC'), Path(folder))
        if path is None: return None
        library = ctypes.CDLL(str(path))
    library.cycles_a_nanosecond.restype = ctypes.c_double
    return max(library.cycles_a_nanosecond() for _ in range(3))


def seconds_of(call, device, calls=1): # of one call
    if device == 'cpu':
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)/1000/calls


def memory_speed(device): # bytes per second that a sum over far more than the caches reads
    numbers = torch.ones((2**27 if device == 'cpu' else 2**30)//2).to(device)
    return numbers.numel()*4/min(seconds_of(lambda: numbers.sum(), device, 5) for _ in range(8))


def generated(x, masks, backend): # a function of no arguments
    return lambda: masked_linear(x, next(masks), 1, 0, backend=backend)


def variants(size, batch, device): # name → a function of no arguments
    mask = torch.randint(0, 256, (size, mask_stride(size)), dtype=torch.uint8, device=device)   # density ½
    copies = 1 if device == 'cpu' else max(1, 2**28//mask.numel())   # more masks than a GPU's cache holds
    masks = itertools.cycle([mask.clone() for _ in range(copies)])
    x, x16 = torch.randn(batch, size, device=device), torch.randn(batch, size, device=device).bfloat16()
    dense, dense16 = torch.randn(size, size, device=device), torch.randn(size, size, device=device).bfloat16()
    made = {'float32': lambda: linear(x, dense), 'bfloat16': lambda: linear(x16, dense16)}
    fast = ('c',) if device == 'cpu' else ('cuda', 'triton')
    for name in [name for name in backends(device) if name in fast]:
        made[name] = generated(x, masks, name)
        if device == 'cuda':
            made[name + ' bfloat16'] = generated(x16, masks, name)
    if 'c' in made and c_library().tt_instructions() > 1:   # what a processor without AVX-512 would run
        made['c AVX2'] = lambda: linear_c(x, next(masks), Generator(1, 0), 1)
    return made


def roofline(size, batch, device, ghz, memory): # seconds that memory and units need at least, or None
    from_memory = size*mask_stride(size)/memory
    if device == 'cpu':
        if ghz is None or c_library().tt_instructions() < 2: return from_memory, None
        generator, shifts, each = VECTOR_OPERATIONS
        operations = size**2/2048*(generator + shifts*(batch//4 + batch % 4) + each*batch)
        return from_memory, operations/OPERATIONS_A_CYCLE/(ghz*1e9*torch.get_num_threads())
    card = torch.cuda.get_device_properties(0)
    rate = getattr(card, 'clock_rate', 0)*1e3*card.multi_processor_count*128
    return from_memory, size**2*CUDA_INSTRUCTIONS/rate if rate and batch <= 2 else None


def timed(calls, device, repeats) -> dict: # name → seconds of each turn
    times = {name: [] for name in calls}
    for turn, (name, call) in itertools.product(range(repeats + 2), calls.items()):   # two to warm up
        seconds = seconds_of(call, device, 20)
        if turn > 1:
            times[name].append(seconds)
    return times


def ratios(times, ours, statistic): # dense over generated
    return {f'{dense} / {name}': statistic(times[dense])/statistic(times[name])
            for name in ours for dense in ('float32', 'bfloat16')}


def milliseconds(times): # of one variant
    return dict(best=1e3*min(times), median=1e3*statistics.median(times), worst=1e3*max(times))


def measure(size, batch, device, repeats, ghz, memory): # a record, printed
    times = timed(variants(size, batch, device), device, repeats)
    from_memory, from_units = roofline(size, batch, device, ghz, memory)
    ours, bound = [name for name in times if 'float' not in name[:8]], max(from_memory, from_units or 0)
    record = dict(size=size, batch=batch, n=repeats,
                  milliseconds={name: milliseconds(each) for name, each in times.items()},
                  ratios_of_best=ratios(times, ours, min),
                  ratios_of_medians=ratios(times, ours, statistics.median),
                  roofline_milliseconds=dict(memory=1e3*from_memory, units=from_units and 1e3*from_units),
                  fraction_of_roofline={name: bound/min(times[name]) for name in ours if name != 'c AVX2'})
    show(record)
    return record


def show(record):
    for name, t in record['milliseconds'].items():
        size, batch = record['size'], record['batch']
        print(f'{size:6}² batch {batch:2}  {name:16} {t["best"]:9.3f} ms best {t["median"]:9.3f} median')
    for name, value in record['ratios_of_best'].items():
        print(f'{"":18}{name:24} {value:6.1f}× best {record["ratios_of_medians"][name]:6.1f}× median')
    for name, value in record['fraction_of_roofline'].items():
        print(f'{"":18}{name:24} {value:6.2f} of the roofline', flush=True)


def triton_version() -> dict:
    try: return dict(triton=version('triton'))
    except PackageNotFoundError: return {}


def parsed():
    output = Path(__file__).resolve().parent.parent/'results/kernels.jsonl'
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', default='cpu', choices=('cpu', 'cuda'))
    add('--sizes', type=int, nargs='+', default=[4096, 8192, 16384], help='of the square matrices')
    add('--batches', type=int, nargs='+', default=[1, 16], help='inputs (default: 1 16)')
    add('--repeats', type=int, default=15, help='of each variant, after two to warm up (default: 15)')
    add('--threads', type=int, default=torch.get_num_threads(), help='on a CPU (default: PyTorch\'s)')
    add('--output', type=Path, default=output)
    return parser.parse_args()


def main():
    args = parsed()
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('no CUDA device here: nothing was measured')
    torch.set_num_threads(args.threads)
    command = ' '.join(['python scripts/bench_kernels.py', *sys.argv[1:]])
    memory, ghz = memory_speed(args.device), clock() if args.device == 'cpu' else None
    common = dict(study='kernels', command=command, hardware=hardware(args.device).split(',')[0],
                  device=args.device, threads=args.threads, memory_gb_per_second=memory/1e9, clock_ghz=ghz,
                  versions=versions() | triton_version())
    for size, batch in itertools.product(args.sizes, args.batches):
        load = os.getloadavg()[0]
        found = measure(size, batch, args.device, args.repeats, ghz, memory)
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        append_record(args.output, common | dict(load_before=load) | found | dict(date=now))


if __name__ == '__main__':
    main()
