# A small data set of your own, in COCO format:
#
#   <data_root>/annotations/train.json   <data_root>/train/*.jpg
#   <data_root>/annotations/val.json     <data_root>/val/*.jpg
#
# Change the two lines below, or inherit this file; see docs/custom_data.md.
_base_ = "ddetr_r50_50e_two_stage.py"

data_root = "data/bccd/"
classes = ("Platelets", "RBC", "WBC")
