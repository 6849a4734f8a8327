"""Plots, figures and pages of HTML that training and evaluation share."""
