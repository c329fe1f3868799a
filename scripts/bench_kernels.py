"""Measure generated-weight products against dense ones in the same run: python scripts/bench_kernels.py [--device cuda]

Appends one line a size and batch to results/kernels.jsonl. Variants take turns, so that what else the machine does falls on all of them alike.
"""
import argparse, ctypes, importlib.metadata, itertools, json, os, platform, statistics, sys, tempfile, time
os.environ.setdefault('GOMP_SPINCOUNT', '10000')   # PyTorch's threads shall not spin through the next variant's turn; has to be said before PyTorch is loaded
from datetime import datetime, timezone
from pathlib import Path
import torch
from train_ticket.kernels import backends, c_library, compile_c, mask_stride, masked_linear

# 512-bit instructions of the AVX-512 path for 2048 weights: generator and transposition; shifts (once for up to four inputs); look-ups and additions of an input
VECTOR_OPERATIONS = 126, 56, 128
OPERATIONS_A_CYCLE = 2       # Zen 4 has four 256-bit vector ports
CUDA_INSTRUCTIONS = 1.03     # thread instructions a weight of matvec_int8: 0.5 logic, 0.35 Philox, 0.13 tensor core, 0.05 loads

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
        start = time.perf_counter(); call()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls): call()
    end.record(); end.synchronize()
    return start.elapsed_time(end)/1000/calls


def memory_speed(device): # bytes a second that a sum over far more than the caches reads
    numbers = torch.ones((2**27 if device == 'cpu' else 2**30)//2)
    numbers = numbers.to(device)
    return numbers.numel()*4/min(seconds_of(lambda: numbers.sum(), device, 5) for _ in range(8))


def variants(size, batch, device): # name → a function of no arguments
    mask = torch.randint(0, 256, (size, mask_stride(size)), dtype=torch.uint8, device=device)   # density one half
    copies = 1 if device == 'cpu' else max(1, 2**28//mask.numel())   # on a GPU, more masks than its cache holds
    masks = itertools.cycle([mask.clone() for _ in range(copies)])
    x, x16 = torch.randn(batch, size, device=device), torch.randn(batch, size, device=device).bfloat16()
    dense, dense16 = torch.randn(size, size, device=device), torch.randn(size, size, device=device).bfloat16()
    made = {'float32': lambda: torch.nn.functional.linear(x, dense), 'bfloat16': lambda: torch.nn.functional.linear(x16, dense16)}
    for name in backends(device):
        if name in ('c', 'cuda', 'triton') and not (device == 'cpu' and name == 'triton'):
            made[name] = lambda name=name: masked_linear(x, next(masks), 1, 0, backend=name)
            if device == 'cuda': made[name + ' bfloat16'] = lambda name=name: masked_linear(x16, next(masks), 1, 0, backend=name)
    return made


def roofline(size, batch, device, ghz, memory): # seconds that memory and execution units need at least for a generated product; None where unknown
    from_memory = size*mask_stride(size)/memory
    if device == 'cpu':
        if ghz is None or c_library().tt_instructions() < 2: return from_memory, None
        generator, shifts, each = VECTOR_OPERATIONS
        return from_memory, size**2/2048*(generator + shifts*(batch//4 + batch % 4) + each*batch)/OPERATIONS_A_CYCLE/(ghz*1e9*torch.get_num_threads())
    card = torch.cuda.get_device_properties(0)
    rate = getattr(card, 'clock_rate', 0)*1e3*card.multi_processor_count*128
    return from_memory, size**2*CUDA_INSTRUCTIONS/rate if rate and batch <= 2 else None


def measure(size, batch, device, repeats, ghz, memory): # a record, printed
    calls = variants(size, batch, device)
    times = {name: [] for name in calls}
    for turn in range(repeats + 2):   # two to warm up
        for name, call in calls.items():
            seconds = seconds_of(call, device, 20)
            if turn > 1: times[name].append(seconds)
    from_memory, from_units = roofline(size, batch, device, ghz, memory)
    ours = [name for name in times if name.split()[0] in ('c', 'cuda', 'triton')]
    ratio = lambda statistic: {f'{dense} / {name}': statistic(times[dense])/statistic(times[name]) for name in ours for dense in ('float32', 'bfloat16')}
    record = dict(size=size, batch=batch, n=repeats, milliseconds={name: dict(best=1e3*min(t), median=1e3*statistics.median(t), worst=1e3*max(t)) for name, t in times.items()},
                  ratios_of_best=ratio(min), ratios_of_medians=ratio(statistics.median), roofline_milliseconds=dict(memory=1e3*from_memory, units=from_units and 1e3*from_units),
                  fraction_of_roofline={name: max(from_memory, from_units or 0)/min(times[name]) for name in ours})
    for name, t in record['milliseconds'].items(): print(f'{size:6}² batch {batch:2}  {name:16} {t["best"]:9.3f} ms best {t["median"]:9.3f} median')
    for name, value in record['ratios_of_best'].items(): print(f'{"":18}{name:24} {value:6.1f}× best {record["ratios_of_medians"][name]:6.1f}× median')
    for name, value in record['fraction_of_roofline'].items(): print(f'{"":18}{name:24} {value:6.2f} of the roofline', flush=True)
    return record


def versions(): # package → version
    found = dict(python=platform.python_version(), torch=torch.__version__)
    for name in 'train_ticket', 'triton':
        try: found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError: pass
    return found


def processor(device): # its name
    if device == 'cuda': return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    return next((line.split(':', 1)[1].strip() for line in info if line.startswith('model name')), platform.processor())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--sizes', type=int, nargs='+', default=[4096, 8192, 16384], help='rows and columns of the layer (default: 4096 8192 16384)')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 16], help='inputs (default: 1 16)')
    parser.add_argument('--repeats', type=int, default=15, help='of each variant, after two to warm up (default: 15)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='on a CPU (default: as many as PyTorch takes)')
    parser.add_argument('--output', type=Path, default=Path(__file__).resolve().parent.parent/'results/kernels.jsonl')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available(): sys.exit('no CUDA device here: nothing was measured')
    torch.set_num_threads(args.threads)
    common = dict(study='kernels', command='python scripts/bench_kernels.py ' + ' '.join(sys.argv[1:]), hardware=processor(args.device), device=args.device,
                  threads=args.threads, memory_gb_per_second=memory_speed(args.device)/1e9, clock_ghz=clock() if args.device == 'cpu' else None, versions=versions())
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for size, batch in itertools.product(args.sizes, args.batches):
        load = os.getloadavg()[0]
        record = common | dict(load_before=load) | measure(size, batch, args.device, args.repeats, common['clock_ghz'], common['memory_gb_per_second']*1e9)
        record['date'] = datetime.now(timezone.utc).isoformat(timespec='seconds')
        with args.output.open('a') as file: file.write(json.dumps(record) + '\n')


if __name__ == '__main__': main()
