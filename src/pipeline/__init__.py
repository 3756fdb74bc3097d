from pipeline.moved import install_finder

install_finder()  # here, because users' own code imports from this package before anything of ours runs
