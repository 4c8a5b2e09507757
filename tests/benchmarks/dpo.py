"""Preference optimisation of the starter model: does it come to prefer what people preferred, on pairs it was not shown?

    python tests/benchmarks/dpo.py --rows PAIRS.jsonl [--steps 60] [--plot FILE.svg] [--json]

Loss, reward margin and reward accuracy of held-out pairs (a tenth) are measured as training goes. Pairs are ``chosen``/``rejected``
dialogues that differ in their last answer, or Treadle's own rows; without a file they are generated.
"""

import json

from sft import arguments, learnt


def main() -> None:
    parser = arguments(__doc__, steps=60, rate=3e-4, batch=32)
    parser.add_argument("--sft-weight", type=float, default=0.0, help="of the chosen answers' likelihood, beside the preference")
    given = parser.parse_args()
    print(json.dumps(learnt("dpo", given), indent=None if given.json else 1))


if __name__ == "__main__":
    main()
