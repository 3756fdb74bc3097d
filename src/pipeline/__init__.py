from pipeline.moved import install

install()  # here, because users' own code imports from this package before anything of ours runs
