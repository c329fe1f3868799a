"Measure the test accuracy of a ticket, without DeepSpeed: python scripts/evaluate.py --ticket FILE"
import sys
from train_ticket.infer import main

if __name__ == '__main__': sys.exit(main())
