"""`python -m medical_lightning experiment=NAME`: the command line of an installed package."""

from medical_lightning import main

if __name__ == "__main__":
    main()
